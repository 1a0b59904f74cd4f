"""Which checkpoints there are, as all processes of a run see it, before they act on it together."""

from __future__ import annotations

import time

import orbax.checkpoint as ocp

from equiformer_jax.data.processes import exchange
from equiformer_jax.training.errors import WorkdirError

# A directory on a network file system can look as it did before for this time (NFS by default).
_SECONDS_TO_WAIT = 60
_SECONDS_BETWEEN = 1.0


def reload_until_same(manager: ocp.CheckpointManager) -> None:
    """Reads the directory of a manager until every process sees in it what the first one sees.

    Each process decides by what it sees whether it has anything to save, and the others would wait
    for one that has not. A single process reads once.

    Args:
      manager: of this process; all processes call this together.

    Raises:
      WorkdirError: the processes still see different checkpoints after a minute; names them.
    """
    # Counted, not timed: all processes give up together.
    for attempt in range(_SECONDS_TO_WAIT):
        if attempt:
            time.sleep(_SECONDS_BETWEEN)
        manager.reload()
        of_all = exchange(sorted(manager.all_steps()))
        different = [process for process, steps in enumerate(of_all) if steps != of_all[0]]
        if not different:
            return
    raise WorkdirError(
        f"the processes of this run do not see the same checkpoints in {manager.directory}: "
        f"process 0 sees those after the steps {of_all[0]}, process {different[0]} "
        f"{of_all[different[0]]}. All need one directory, on a file system that they share"
    )

"""Which checkpoint of a run is meant by `best`, `latest` or a number."""

from __future__ import annotations

from equiformer_jax.training.checkpoint import Checkpoints
from equiformer_jax.training.errors import WorkdirError


def choose_checkpoint(checkpoints: Checkpoints, wanted: str | int) -> int:
    """The steps done by the checkpoint that is meant.

    Args:
      checkpoints: of the run.
      wanted: `best` (the lowest error on the validation split; the latest where none has been
        validated), `latest`, or the number of training steps after which it was written.

    Raises:
      WorkdirError: there is no such checkpoint; names those that there are.
      ValueError: `wanted` is none of these.
    """
    if wanted not in ("best", "latest"):
        return _with_number(checkpoints, wanted)
    best = checkpoints.best_step if wanted == "best" else None
    step = checkpoints.latest_step if best is None else best
    if step is None:
        raise WorkdirError(f"{checkpoints.directory} holds no checkpoint yet; train first")
    return step


def _with_number(checkpoints: Checkpoints, wanted: str | int) -> int:
    if isinstance(wanted, bool) or not str(wanted).isdecimal():
        raise ValueError(
            f"checkpoint={wanted!r}; expected 'best', 'latest' or a number of training steps"
        )
    if not checkpoints.path(int(wanted)).is_dir():
        there = sorted(int(p.name) for p in checkpoints.directory.glob("[0-9]*") if p.is_dir())
        raise WorkdirError(f"{checkpoints.directory} has no checkpoint {wanted}, only {there}")
    return int(wanted)

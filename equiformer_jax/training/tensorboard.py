"""The numbers of a run for TensorBoard: `tensorboard --logdir=WORKDIR`."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from tensorboardX import SummaryWriter

DIRECTORY = "tensorboard"

# Say where a record belongs, or are its abscissa.
_NOT_DRAWN = frozenset({"kind", "epoch", "step", "step_of_epoch"})
# Longer prefixes before those that end like them.
_SPLITS = ("ema_validation_", "validation_", "train_", "test_")


class ScalarWriter:
    """Writes the numbers of records under `<workdir>/tensorboard`, to be used in a `with` block.

    Errors are grouped by the split that they are of, as `validation/force_mae_mev_per_angstrom`;
    what is of no split is in the group `run`, and what is of a part of an epoch in `steps`.
    """

    def __init__(self, workdir: str | os.PathLike[str], steps_done: int = 0) -> None:
        """Opens a new file of events, to go on after `steps_done` steps.

        What earlier files say of later steps comes from a run that was killed after its last
        checkpoint: TensorBoard is told to leave it out.

        Args:
          workdir: directory of the run.
          steps_done: steps of the checkpoint with which the run goes on.
        """
        directory = pathlib.Path(workdir) / DIRECTORY
        # Names have the time in seconds only; a run that goes on at once must not overwrite a file.
        number = len(list(directory.glob("events.*")))
        self._writer = SummaryWriter(
            str(directory), purge_step=steps_done + 1, filename_suffix=f".{number:04d}"
        )

    def write(self, record: Mapping[str, Any]) -> None:
        """Writes every number of a record at its step, for TensorBoard to see at once.

        Args:
          record: as in `metrics.jsonl`.
        """
        for name, value in record.items():
            if name not in _NOT_DRAWN and _is_number(value):
                self._writer.add_scalar(_tag(record["kind"], name), value, record["step"])
        self._writer.flush()

    def close(self) -> None:
        """Ends the file."""
        self._writer.close()

    def __enter__(self) -> ScalarWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _tag(kind: str, name: str) -> str:
    if kind == "steps":
        return f"steps/{name}"
    for split in _SPLITS:
        if name.startswith(split):
            return f"{split.removesuffix('_')}/{name.removeprefix(split)}"
    return f"run/{name}"

"""Which checkpoints of a run are kept: the newest few, and the best on the validation split."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from orbax.checkpoint.checkpoint_managers import PreservationPolicy

from equiformer_jax.training.errors import CheckpointDamagedError, CheckpointFormatError
from equiformer_jax.training.run_record import RunRecord


class Retention(PreservationPolicy):
    """Tells orbax what to keep, and everybody which checkpoint is the best.

    Attributes:
      losses: validation loss of each checkpoint that can be the best, by step.
    """

    def __init__(self, keep_latest: int) -> None:
        """Knows no losses yet.

        Args:
          keep_latest: how many of the newest checkpoints to keep, at least 1.

        Raises:
          ValueError: `keep_latest` is less than 1.
        """
        if keep_latest < 1:
            raise ValueError(f"keep_latest={keep_latest}: expected at least 1")
        self.losses: dict[int, float] = {}
        self._keep_latest = keep_latest

    def note(self, record: RunRecord) -> None:
        """Remembers the loss of a checkpoint, if it has one."""
        if record.selection_error is not None:
            self.losses[record.step] = record.selection_error

    def best_of(self, steps: Iterable[int]) -> int | None:
        """The step with the lowest loss, the earliest of several; `None` where none has a loss."""
        validated = [step for step in sorted(steps) if step in self.losses]
        return min(validated, key=self.losses.__getitem__, default=None)

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        """Whether to keep each checkpoint; orbax asks whenever it saves."""
        steps = [checkpoint.step for checkpoint in checkpoints]
        kept = {*sorted(steps)[-self._keep_latest :], self.best_of(steps)}
        return [step in kept for step in steps]


def read_losses(steps: Iterable[int], read: Callable[[int], RunRecord]) -> dict[int, float]:
    """Validation losses of checkpoints by step, of those that have one.

    Args:
      steps: the checkpoints.
      read: gives the record of one of them.
    """
    retention = Retention(keep_latest=1)
    for step in steps:
        # What is wrong with a record is told where the checkpoint is used.
        with contextlib.suppress(CheckpointFormatError, CheckpointDamagedError):
            retention.note(read(step))
    return retention.losses

"""The time that a run has taken and the time that is left."""

from __future__ import annotations

import time

from equiformer_jax.data.pipeline import Position
from equiformer_jax.training.run import Run


class Clock:
    """How long the epochs take, and how long compiling."""

    def __init__(self, run: Run, position: Position) -> None:
        """Starts.

        Args:
          run: the run.
          position: the first batch that it will take.
        """
        self._run = run
        self._first, self._start = self._epochs(position), time.perf_counter()

    def _epochs(self, position: Position) -> float:
        return position.epoch + position.step / self._run.length.steps_per_epoch

    @property
    def seconds(self) -> float:
        """Since the clock was started."""
        return time.perf_counter() - self._start

    @property
    def compiling(self) -> float:
        """Of these, spent on compilations."""
        return self._run.train_step.seconds + self._run.evaluation_step.seconds

    def seconds_left(self, position: Position) -> float:
        """An estimate for the rest of the run."""
        done = self._epochs(position)
        per_epoch = (self.seconds - self.compiling) / (done - self._first)
        return per_epoch * (self._run.length.num_epochs - done)

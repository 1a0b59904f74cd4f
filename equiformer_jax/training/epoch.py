"""One pass over the training split.

The host waits for the devices at logging intervals, for all steps. Between them it waits for older
steps only, while the devices have some to go on with: every 100 steps, to check them, and where a
run has several processes, every fourth step for what they tell each other (`shared_wish`).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax

from equiformer_jax.data.pipeline import Position
from equiformer_jax.training.checkpoint import Checkpoints
from equiformer_jax.training.errors import TrainingDivergedError
from equiformer_jax.training.metrics import Record, average
from equiformer_jax.training.progress import say, step_line
from equiformer_jax.training.run import Run
from equiformer_jax.training.run_log import RunLog
from equiformer_jax.training.shared_wish import SharedWish
from equiformer_jax.training.state import TrainState
from equiformer_jax.training.step import Means

_SHOWN_STRUCTURES = 8
# After so many steps at the latest it is known whether one was not finite. The last few are left
# out then, so that the devices need not wait for the host.
_CHECKED_EVERY = 100
_STILL_RUNNING = 4


class EpochResult(NamedTuple):
    """Where an epoch ended.

    Attributes:
      state: after its last step.
      record: the numbers of its steps; those since a resumption only, if it was interrupted before.
      position: the batch that comes next; inside this epoch if it was interrupted.
    """

    state: TrainState
    record: Record
    position: Position


def train_one_epoch(
    run: Run,
    state: TrainState,
    position: Position,
    checkpoints: Checkpoints,
    log: RunLog,
    wish: SharedWish,
    validate: Callable[[TrainState, Position, Record], None],
    seconds_left: Callable[[Position], float],
) -> EpochResult:
    """Takes the steps of one epoch, or those that are left of it.

    Args:
      run: the run.
      state: state before its first step; its buffers are reused.
      position: the first batch to take.
      checkpoints: to name the last good one if the training diverges.
      log: takes the records inside the epoch, where the configuration asks for them.
      wish: ends the epoch in the middle.
      validate: called inside the epoch where the configuration asks for it, with the state, the
        next position and the record of the steps since the last one, which it writes.
      seconds_left: estimate for the rest of the run, at the given position.

    Raises:
      TrainingDivergedError: the loss is not finite; names the step, the structures of its batch and
        the last good checkpoint.
    """
    length = run.length.steps_per_epoch
    interval = run.config.training.log_every_steps or length
    validation_interval = run.config.training.get("validate_every_steps", 0) or length
    steps = _Steps(run, position, checkpoints)
    whole, window = _Stopwatch(run), _Stopwatch(run)
    with run.data.training_batches.epoch(*position) as batches:
        for batch in batches:
            state, means = run.train_step(state, run.place(batch))
            steps.pending.append(means)
            done = batches.position.step
            if len(steps.pending) >= _CHECKED_EVERY:
                steps.check_older()
            is_last = wish.after_step()
            is_validated = done % validation_interval == 0 and done < length
            if (done % interval == 0 and done < length) or is_validated:
                record = _record(run, "steps", position.epoch, done, steps.fetch(), window.seconds)
                if is_validated:
                    whole.pause()
                    validate(state, Position(position.epoch, done), record)
                    whole.go_on()
                else:
                    log.write(record)
                say(step_line(record, length, seconds_left(Position(position.epoch, done))))
                window = _Stopwatch(run)
            if is_last:
                break
        end = batches.position
    steps.fetch()
    record = _record(run, "epoch", position.epoch, end.step, steps.finished, whole.seconds)
    if end.step == run.length.steps_per_epoch:
        end = Position(position.epoch + 1, 0)
    return EpochResult(state, record, end)


class _Stopwatch:
    """Seconds since it was made, those of compiling the training step and of pauses taken off."""

    def __init__(self, run: Run) -> None:
        self._step, self._seconds = run.train_step, 0.0
        self.go_on()

    def go_on(self) -> None:
        self._start, self._compiled = time.perf_counter(), self._step.seconds

    def pause(self) -> None:
        self._seconds = self.seconds

    @property
    def seconds(self) -> float:
        compiling = self._step.seconds - self._compiled
        return self._seconds + time.perf_counter() - self._start - compiling


class _Steps:
    """The steps of an epoch: those that the devices may still be at, and those that are checked."""

    def __init__(self, run: Run, position: Position, checkpoints: Checkpoints) -> None:
        self._run, self._position, self._checkpoints = run, position, checkpoints
        self.pending: list[Means] = []
        self.finished: list[Means] = []
        self._returned = 0

    def fetch(self) -> list[Means]:
        """Waits for the pending steps, checks them, and returns those since the last call."""
        self._check(len(self.pending))
        fetched = self.finished[self._returned :]
        self._returned = len(self.finished)
        return fetched

    def check_older(self) -> None:
        """Checks the pending steps but the last ones, which the devices may still be at."""
        self._check(len(self.pending) - _STILL_RUNNING)

    def _check(self, count: int) -> None:
        """Checks that losses and gradients of the first pending steps are finite."""
        fetched = jax.device_get(self.pending[:count])
        for index, means in enumerate(fetched):
            bad = [name for name, mean in means.items() if not math.isfinite(mean.total)]
            if bad:
                self._refuse(self._position.step + len(self.finished) + index, bad)
        self.pending = self.pending[count:]
        self.finished += fetched

    def _refuse(self, step: int, bad: Sequence[str]) -> None:
        run, epoch = self._run, self._position.epoch
        names = run.data.names_of_batch(epoch, step)
        more = f" and {len(names) - _SHOWN_STRUCTURES} more" * (len(names) > _SHOWN_STRUCTURES)
        last = self._checkpoints.latest_step
        good = "no checkpoint had been written"
        if last is not None:
            good = f"the last good checkpoint is {self._checkpoints.path(last)}"
        raise TrainingDivergedError(
            f"step {epoch * run.length.steps_per_epoch + step} (epoch {epoch + 1}): "
            f"{', '.join(bad)} not finite; {good}. The batch had "
            f"{'; '.join(names[:_SHOWN_STRUCTURES])}{more}. A lower learning rate, or a look at "
            "these structures (experiments.inspect_data), may help; the same command with "
            "training.skip_nonfinite=True goes on and leaves such steps out"
        )


def _record(
    run: Run, kind: str, epoch: int, step_of_epoch: int, means: Sequence[Means], seconds: float
) -> Record:
    step = epoch * run.length.steps_per_epoch + step_of_epoch
    averages = average(means)
    gradient_norm, loss = averages.pop("gradient_norm"), averages.pop("loss")
    skipped = averages.pop("skipped", None)
    # Part of an epoch may well be left out; a whole one, and nothing will ever be learned.
    if skipped == 1.0 and len(means) == run.length.steps_per_epoch:
        raise TrainingDivergedError(
            f"epoch {epoch + 1}: every one of its {len(means)} steps up to step {step} was left "
            "out because its loss or gradient was not finite"
        )
    return {
        "kind": kind,
        "epoch": epoch + 1,
        "step": step,
        "step_of_epoch": step_of_epoch,
        "learning_rate": float(run.schedule(max(step - 1, 0))),
        "loss": loss,
        "gradient_norm": gradient_norm,
        **({} if skipped is None else {"skipped_steps": round(skipped * len(means))}),
        **{f"train_{name}": value for name, value in averages.items()},
        "structures_per_second": run.config.training.batch_size * len(means) / seconds,
    }

"""One pass over the training split. The host waits for the devices at logging intervals only."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

import jax

from equiformer_jax.training.checkpoint import Checkpoints
from equiformer_jax.training.errors import TrainingDivergedError
from equiformer_jax.training.metrics import MetricsFile, Record, average
from equiformer_jax.training.progress import say, step_line
from equiformer_jax.training.run import Run
from equiformer_jax.training.sharding import place_batch
from equiformer_jax.training.state import TrainState
from equiformer_jax.training.step import Means


def train_one_epoch(
    run: Run, state: TrainState, epoch: int, checkpoints: Checkpoints, log: MetricsFile
) -> tuple[TrainState, Record]:
    """Takes the steps of one epoch.

    Args:
      run: the run.
      state: state before the epoch; its buffers are reused.
      epoch: which one, from 0.
      checkpoints: to name the last good one if the training diverges.
      log: takes the records inside the epoch, where the configuration asks for them.

    Returns:
      The state after the epoch, and the epoch's record for `metrics.jsonl`.

    Raises:
      TrainingDivergedError: the loss is not finite; names the step and the last good checkpoint.
    """
    interval = run.config.training.log_every_steps or run.steps_per_epoch
    finished: list[Means] = []
    pending: list[Means] = []
    whole, window = _Stopwatch(run), _Stopwatch(run)
    with run.training_batches(epoch) as batches:
        for step, batch in enumerate(batches, start=1):
            state, means = run.train_step(state, place_batch(batch.graph, run.mesh))
            pending.append(means)
            if step % interval == 0 and step < run.steps_per_epoch:
                fetched = _fetch(pending, run, epoch, len(finished), checkpoints)
                record = _record(run, "steps", epoch, step, fetched, window.seconds)
                log.write(record)
                say(step_line(record, run.steps_per_epoch))
                finished, pending, window = finished + fetched, [], _Stopwatch(run)
    finished += _fetch(pending, run, epoch, len(finished), checkpoints)
    return state, _record(run, "epoch", epoch, len(finished), finished, whole.seconds)


class _Stopwatch:
    """Seconds since it was made, those of compilations taken off."""

    def __init__(self, run: Run) -> None:
        self._step = run.train_step
        self._start, self._compiled = time.perf_counter(), self._step.seconds

    @property
    def seconds(self) -> float:
        compiling = self._step.seconds - self._compiled
        return time.perf_counter() - self._start - compiling


def _fetch(
    pending: Sequence[Means], run: Run, epoch: int, steps_before: int, checkpoints: Checkpoints
) -> list[Means]:
    """Waits for the steps and checks that their loss and gradient are finite."""
    fetched = jax.device_get(list(pending))
    for index, means in enumerate(fetched):
        bad = [name for name, mean in means.items() if not math.isfinite(mean.total)]
        if bad:
            step = epoch * run.steps_per_epoch + steps_before + index
            last = checkpoints.latest_epoch
            good = (
                f"the last good checkpoint is {checkpoints.path(last)}"
                if last
                else ("no checkpoint had been written")
            )
            raise TrainingDivergedError(
                f"step {step} (epoch {epoch + 1}): {', '.join(bad)} not finite; {good}. "
                "A lower learning rate, or a look at the labels of the training data, may help"
            )
    return fetched


def _record(
    run: Run, kind: str, epoch: int, step_of_epoch: int, means: Sequence[Means], seconds: float
) -> Record:
    step = epoch * run.steps_per_epoch + step_of_epoch
    averages = average(means)
    gradient_norm, loss = averages.pop("gradient_norm"), averages.pop("loss")
    return {
        "kind": kind,
        "epoch": epoch + 1,
        "step": step,
        "step_of_epoch": step_of_epoch,
        "learning_rate": float(run.schedule(step - 1)),
        "loss": loss,
        "gradient_norm": gradient_norm,
        **{f"train_{name}": value for name, value in averages.items()},
        "structures_per_second": run.config.training.batch_size * len(means) / seconds,
    }

"""The epochs of a run: train, evaluate, log, save; and the ways to end before the last one."""

from __future__ import annotations

import pathlib

from equiformer_jax.data.pipeline import Position
from equiformer_jax.training.checkpoint import SELECTION_METRIC, Checkpoints, RunRecord
from equiformer_jax.training.clock import Clock
from equiformer_jax.training.configuration import to_plain
from equiformer_jax.training.epoch import train_one_epoch
from equiformer_jax.training.errors import RunInterruptedError
from equiformer_jax.training.evaluation import evaluate_means
from equiformer_jax.training.interruption import Interruption
from equiformer_jax.training.metrics import Record, format_duration
from equiformer_jax.training.progress import epoch_line, say
from equiformer_jax.training.run import Run
from equiformer_jax.training.run_facts import package_version
from equiformer_jax.training.run_log import RunLog
from equiformer_jax.training.sharding import replicate
from equiformer_jax.training.shared_wish import SharedWish
from equiformer_jax.training.state import Params, TrainState


def train_epochs(
    run: Run,
    state: TrainState,
    position: Position,
    checkpoints: Checkpoints,
    workdir: pathlib.Path,
) -> TrainState:
    """Takes the epochs that are left; writes records and checkpoints.

    Args:
      run: the run.
      state: state before the first step; its buffers are reused.
      position: the first batch to take.
      checkpoints: of the workdir.
      workdir: directory of the run.

    Returns:
      The state after the last epoch, which is saved.

    Raises:
      TrainingDivergedError: the loss is not finite any more.
      RunInterruptedError: a process was asked to end; everything is saved.
      WorkdirError: a record or a checkpoint cannot be written.
    """
    num_epochs = run.length.num_epochs
    if position.epoch >= num_epochs:
        say(f"the training of {num_epochs} epochs is finished already")
        return state
    clock = Clock(run, position)
    saved = position

    def validate(state: TrainState, position: Position, record: Record) -> None:
        nonlocal saved
        _add_validation(record, run, state)
        log.write(record)
        checkpoints.save(state, _run_record(run, position, record))
        saved = position

    with Interruption() as interruption, RunLog(workdir, int(state.step)) as log:
        wish = SharedWish(interruption, run.mesh)
        while position.epoch < num_epochs:
            result = train_one_epoch(
                run, state, position, checkpoints, log, wish, validate, clock.seconds_left
            )
            state, record, position = result.state, result.record, result.position
            if position.step:
                if position != saved:
                    checkpoints.save(state, _run_record(run, position, {}))
                _stop(position, checkpoints)
            _evaluate_into(record, run, state, position.epoch)
            # First the log: resuming drops records without a checkpoint, but cannot bring any back.
            log.write(record)
            checkpoints.save(state, _run_record(run, position, record))
            say(epoch_line(record, num_epochs, clock.seconds_left(position)))
            if position.epoch < num_epochs and wish.now():
                _stop(position, checkpoints)
        checkpoints.wait()  # as long as a signal does not end the program
    say(f"trained for {format_duration(clock.seconds)}, {clock.compiling:.0f} s of it compiling")
    return state


def _evaluate_into(record: Record, run: Run, state: TrainState, epochs_done: int) -> None:
    """Adds the errors on the validation split, and from time to time on the test split."""
    training = run.config.training
    _add_validation(record, run, state)
    if training.test_every_epochs and epochs_done % training.test_every_epochs == 0:
        _add_errors(record, run, state.params, "test", limit=training.test_batches)


def _add_validation(record: Record, run: Run, state: TrainState) -> None:
    """Adds the errors on the validation split, and what the best weights are chosen by."""
    _add_errors(record, run, state.params, "validation")
    record[SELECTION_METRIC] = sum(
        weight * record[f"validation_{name}"] for name, weight in run.objective.selection.items()
    )
    if state.ema_params is not None:
        average = replicate(state.ema_params, run.mesh)  # it may be divided over the devices
        _add_errors(record, run, average, "validation", "ema_validation")


def _add_errors(
    record: Record,
    run: Run,
    params: Params,
    split: str,
    prefix: str | None = None,
    limit: int | None = None,
) -> None:
    batches = run.data.evaluation_batches[split]
    chosen = (batches[step] for step in range(min(limit or len(batches), len(batches))))
    errors = evaluate_means(run.evaluation_step, params, chosen, run.mesh)
    record |= {f"{prefix or split}_{name}": value for name, value in errors.items()}


def _stop(position: Position, checkpoints: Checkpoints) -> None:
    checkpoints.wait()
    raise RunInterruptedError(
        f"asked to end; saved before step {position.step} of epoch {position.epoch + 1} in "
        f"{checkpoints.directory}. The same command goes on from there"
    )


def _run_record(run: Run, position: Position, metrics: Record) -> RunRecord:
    numbers = {name: value for name, value in metrics.items() if isinstance(value, float)}
    return RunRecord(
        config=to_plain(run.config),
        statistics=run.data.statistics,
        step=position.epoch * run.length.steps_per_epoch + position.step,
        epoch=position.epoch,
        step_of_epoch=position.step,
        metrics=numbers,
        package_version=package_version(),
    )

"""The two things that one does with a run: `train` it, and `evaluate` what it has learned."""

from __future__ import annotations

import dataclasses
import os
import pathlib

from ml_collections import config_dict

from equiformer_jax.data.catalog import SPLITS
from equiformer_jax.data.pipeline import Position
from equiformer_jax.training.checkpoint import SELECTION_METRIC, Checkpoints, RunRecord
from equiformer_jax.training.clock import Clock
from equiformer_jax.training.configuration import to_plain
from equiformer_jax.training.early_checks import check_configuration
from equiformer_jax.training.epoch import train_one_epoch
from equiformer_jax.training.errors import RunInterruptedError, WorkdirError
from equiformer_jax.training.evaluation import Evaluation, evaluate_means
from equiformer_jax.training.initial_weights import load_initial_params
from equiformer_jax.training.interruption import Interruption
from equiformer_jax.training.metrics import MetricsFile, Record, format_duration
from equiformer_jax.training.progress import describe_devices, epoch_line, say
from equiformer_jax.training.run import Run
from equiformer_jax.training.run_facts import RunFacts, package_version
from equiformer_jax.training.state import Params, TrainState, count_parameters, size_in_bytes
from equiformer_jax.training.tensorboard import ScalarWriter
from equiformer_jax.training.workdir import (
    check_free_space,
    load_config,
    prepare_workdir,
    save_config,
    save_statistics,
)


def train(config: config_dict.ConfigDict, workdir: str | os.PathLike[str]) -> Evaluation:
    """Trains a configuration, or goes on with the training that the workdir holds.

    Writes into the workdir: `config.json`, `statistics.json`, `run.json`, `metrics.jsonl`,
    `tensorboard/`, `checkpoints/` (one for each epoch; the newest and the best are kept) and, at
    the end, `test_metrics.json`.

    Args:
      config: the run, with the parts that `early_checks.PARTS` lists.
      workdir: directory of the run, created if need be.

    Returns:
      Predictions and errors on the test split, of the last weights or the best ones, as
      `config.training.report` says.

    Raises:
      WorkdirError: the workdir cannot be written, or its disk is too full.
      CheckpointMismatchError: it holds a run of another configuration.
      TrainingDivergedError: the loss is not finite any more.
      RunInterruptedError: the process was asked to end; everything is saved.
      ValueError: the configuration or the data do not fit; names the field or the record.
    """
    check_configuration(config)

    # ---- Where to, and is there something to go on with?
    workdir = prepare_workdir(workdir)
    settings = to_plain(config)
    with Checkpoints(workdir, config.training.keep_checkpoints, say) as checkpoints:
        newest = checkpoints.newest_good()
        saved = None if newest is None else checkpoints.check_configuration(newest, settings)

        # ---- Data, model, optimizer
        run = Run(config, say, statistics=saved.statistics if saved else None)
        say(f"devices: {describe_devices(run.mesh)}")
        say(_describe_data(run))
        save_config(workdir, settings)
        save_statistics(workdir, run.data.statistics)

        # ---- Weights
        state, position = _initial_state(run, checkpoints, saved)
        facts = _facts_of(run, state)
        facts.save(workdir)
        shared = f", those of {run.members} models" if run.members > 1 else ""
        say(f"model: {facts.num_parameters:,} parameters{shared}")
        # The newest ones, the best one and the one being written; some of them may be there.
        copies = 2 if saved else config.training.keep_checkpoints + 2
        check_free_space(workdir, copies * size_in_bytes(state))

        # ---- Training
        state = _train_epochs(run, state, position, checkpoints, workdir)
        params, weights = _reported_params(run, state, checkpoints)

    # ---- What has been learned
    return _evaluated(run, params, "test", weights, workdir)


def evaluate(
    workdir: str | os.PathLike[str],
    split: str = "test",
    *,
    checkpoint: str | int = "latest",
    average: bool = False,
) -> Evaluation:
    """Evaluates weights of a workdir, and writes `<split>_metrics.json` into it.

    Args:
      workdir: directory of a run.
      split: `train`, `validation` or `test`.
      checkpoint: `latest`, `best` (on the validation split), or a number of steps.
      average: take the moving average of the weights.

    Raises:
      WorkdirError: this is not the workdir of a run, or it has no such checkpoint.
      ValueError: the split or the checkpoint is none of these, or the run keeps no average.
    """
    if split not in SPLITS:
        raise ValueError(f"split={split!r}; known are {list(SPLITS)}")
    config, workdir = load_config(workdir), pathlib.Path(workdir).expanduser().resolve()
    with Checkpoints(workdir, config.training.keep_checkpoints, say) as checkpoints:
        step = _find_checkpoint(checkpoints, checkpoint)
        statistics = checkpoints.read_record(step).statistics
        run = Run(config, say, statistics=statistics, splits=(split,))
        say(f"devices: {describe_devices(run.mesh)}")
        weights = f"{'their moving average ' if average else 'those '}after {step} steps"
        say(f"weights: {weights}, from {checkpoints.path(step)}")
        params = checkpoints.restore_params(step, run.abstract_params(), average=average)
    return _evaluated(run, params, split, weights, workdir)


def _evaluated(
    run: Run, params: Params, split: str, weights: str, workdir: pathlib.Path
) -> Evaluation:
    evaluation = dataclasses.replace(run.evaluate(params, split), weights=weights)
    evaluation.save_summary(workdir)
    return evaluation


def _find_checkpoint(checkpoints: Checkpoints, wanted: str | int) -> int:
    named = {"latest": checkpoints.latest_step, "best": checkpoints.best_step}
    if wanted not in named and not str(wanted).isdecimal():
        raise ValueError(
            f"checkpoint={wanted!r}; expected 'latest', 'best' or a number of training steps"
        )
    step = named[wanted] if wanted in named else int(wanted)
    if step is None or not checkpoints.path(step).is_dir():
        what = "checkpoint yet; train first" if step is None else f"checkpoint {step}"
        raise WorkdirError(f"{checkpoints.directory} holds no {what}")
    return step


def _initial_state(
    run: Run, checkpoints: Checkpoints, saved: RunRecord | None
) -> tuple[TrainState, Position]:
    """The state to begin with: that of a checkpoint, else given weights, else fresh ones."""
    if saved is not None:
        where = f"epoch {saved.epoch + 1}, step {saved.step_of_epoch} of it"
        say(f"resuming before {where}, from {checkpoints.path(saved.step)}")
        state = checkpoints.restore_state(saved.step, run.abstract_state())
        return state, Position(saved.epoch, saved.step_of_epoch)
    given = run.config.training.start_from
    if given is None:
        return run.state_of(run.initial_params()), Position(0, 0)
    params = load_initial_params(given, run.abstract_params(), run.model.config)
    say(f"starting from the weights of {given}")
    return run.state_of(params), Position(0, 0)


def _reported_params(run: Run, state: TrainState, checkpoints: Checkpoints) -> tuple[Params, str]:
    """The weights that the test split is evaluated with at the end, and what to call them."""
    best = checkpoints.best_step
    if run.config.training.report == "last" or best is None:
        return state.params, f"the last ones, after {int(state.step):,} steps"
    weights = f"the best ones on the validation split, after {best:,} steps"
    say(f"weights for the test: {weights}")
    return checkpoints.restore_params(best, run.abstract_params()), weights


def _train_epochs(
    run: Run,
    state: TrainState,
    position: Position,
    checkpoints: Checkpoints,
    workdir: pathlib.Path,
) -> TrainState:
    num_epochs = run.length.num_epochs
    if position.epoch >= num_epochs:
        say(f"the training of {num_epochs} epochs is finished already")
        return state
    log, clock = MetricsFile(workdir, int(state.step)), Clock(run, position)
    with Interruption() as interruption, ScalarWriter(workdir, int(state.step)) as scalars:
        while position.epoch < num_epochs:
            result = train_one_epoch(run, state, position, checkpoints, log, interruption)
            state, record, position = result.state, result.record, result.position
            if position.step:
                _save_and_stop(run, state, position, checkpoints)
            _evaluate_into(record, run, state, position.epoch)
            # First the log: resuming drops records without a checkpoint, but cannot bring any back.
            log.write(record)
            scalars.write(record)
            checkpoints.save(state, _run_record(run, position, record))
            say(epoch_line(record, num_epochs, clock.seconds_left(position)))
            if interruption.requested and position.epoch < num_epochs:
                _stop(position, checkpoints)
        checkpoints.wait()  # as long as a signal does not end the program
    say(f"trained for {format_duration(clock.seconds)}, {clock.compiling:.0f} s of it compiling")
    return state


def _evaluate_into(record: Record, run: Run, state: TrainState, epochs_done: int) -> None:
    """Adds the errors on the validation split, and from time to time on the test split."""
    training = run.config.training
    _add_errors(record, run, state.params, "validation")
    record[SELECTION_METRIC] = sum(
        weight * record[f"validation_{name}"] for name, weight in run.objective.selection.items()
    )
    if state.ema_params is not None:
        _add_errors(record, run, state.ema_params, "validation", "ema_validation")
    if training.test_every_epochs and epochs_done % training.test_every_epochs == 0:
        _add_errors(record, run, state.params, "test", limit=training.test_batches)


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


def _save_and_stop(
    run: Run, state: TrainState, position: Position, checkpoints: Checkpoints
) -> None:
    """Saves in the middle of an epoch, then ends the run."""
    checkpoints.save(state, _run_record(run, position, {}))
    _stop(position, checkpoints)


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


def _facts_of(run: Run, state: TrainState) -> RunFacts:
    return RunFacts(
        split_sizes={split: len(store) for split, store in run.data.stores.items()},
        num_parameters=count_parameters(state.params),
        devices=describe_devices(run.mesh),
    )


def _describe_data(run: Run) -> str:
    data, training = run.data, run.config.training
    sizes = ", ".join(f"{len(store):,} {split}" for split, store in data.stores.items())
    shapes = " or ".join(f"{b.n_node} atoms and {b.n_edge} edges" for b in data.budgets)
    return (
        f"data: {run.config.data.name}, {sizes} structures; "
        f"{training.batch_size} structures a step, padded to {shapes} on each device; "
        f"batches are {data.fill.nodes:.0%} full of atoms, {data.fill.edges:.0%} of edges"
    )

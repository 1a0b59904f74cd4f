"""The two things that one does with a run: `train` it, and `evaluate` what it has learned."""

from __future__ import annotations

import importlib.metadata
import os
import pathlib
import time

from ml_collections import config_dict

from equiformer_jax.training.checkpoint import SELECTION_METRIC, Checkpoints, RunRecord
from equiformer_jax.training.configuration import to_plain
from equiformer_jax.training.epoch import train_one_epoch
from equiformer_jax.training.errors import WorkdirError
from equiformer_jax.training.evaluation import Evaluation, evaluate_means
from equiformer_jax.training.metrics import MetricsFile, Record, format_duration
from equiformer_jax.training.progress import describe_devices, epoch_line, say
from equiformer_jax.training.run import Run
from equiformer_jax.training.state import TrainState, count_parameters
from equiformer_jax.training.workdir import (
    STATISTICS_FILE,
    load_config,
    prepare_workdir,
    save_config,
)


def train(config: config_dict.ConfigDict, workdir: str | os.PathLike[str]) -> Evaluation:
    """Trains a configuration, or goes on with the training that the workdir holds.

    Writes into the workdir: `config.json`, `statistics.json`, `metrics.jsonl`, `checkpoints/` (one
    for each epoch; the newest and the best are kept) and, at the end, `test_metrics.json`.

    Args:
      config: the run, with the parts `model`, `data` and `training`, and a `seed`.
      workdir: directory of the run, created if need be.

    Returns:
      Predictions and errors of the last weights on the test split.

    Raises:
      WorkdirError: the workdir cannot be written.
      CheckpointMismatchError: it holds a run of another configuration.
      TrainingDivergedError: the loss is not finite any more.
      ValueError: the configuration or the data do not fit; names the field or the record.
    """
    # ---- Where to, and is there something to go on with?
    workdir = prepare_workdir(workdir)
    settings = to_plain(config)
    with Checkpoints(workdir, config.training.keep_checkpoints) as checkpoints:
        epochs_done = checkpoints.latest_epoch or 0
        saved = checkpoints.check_configuration(epochs_done, settings) if epochs_done else None

        # ---- Data, model, optimizer
        run = Run(config, say, statistics=saved.statistics if saved else None)
        say(f"devices: {describe_devices(run.mesh)}")
        say(_describe_data(run))
        save_config(workdir, settings)
        run.statistics.save(workdir / STATISTICS_FILE)

        # ---- Weights
        if saved is None:
            state = run.initial_state()
        else:
            state = checkpoints.restore_state(epochs_done, run.abstract_state())
            say(f"resuming after epoch {epochs_done} from {checkpoints.path(epochs_done)}")
        say(f"model: {count_parameters(state.params):,} parameters")

        # ---- Training
        state = _train_epochs(run, state, epochs_done, checkpoints, workdir)

    # ---- What has been learned
    evaluation = run.evaluate(state.params, "test")
    evaluation.save_summary(workdir)
    return evaluation


def evaluate(workdir: str | os.PathLike[str], split: str = "test") -> Evaluation:
    """Evaluates the newest weights of a workdir, and writes `<split>_metrics.json` into it.

    Args:
      workdir: directory of a run.
      split: `train`, `validation` or `test`.

    Raises:
      WorkdirError: this is not the workdir of a run, or it has no checkpoint yet.
      ValueError: the split is unknown.
    """
    config, workdir = load_config(workdir), pathlib.Path(workdir).expanduser().resolve()
    with Checkpoints(workdir, config.training.keep_checkpoints) as checkpoints:
        epoch = checkpoints.latest_epoch
        if epoch is None:
            raise WorkdirError(f"{checkpoints.directory} holds no checkpoint yet; train first")
        statistics = checkpoints.read_record(epoch).statistics
        run = Run(config, say, statistics=statistics, splits=(split,))
        say(f"devices: {describe_devices(run.mesh)}")
        say(f"weights after epoch {epoch} from {checkpoints.path(epoch)}")
        params = checkpoints.restore_params(epoch, run.abstract_params())
    evaluation = run.evaluate(params, split)
    evaluation.save_summary(workdir)
    return evaluation


def _train_epochs(
    run: Run, state: TrainState, epochs_done: int, checkpoints: Checkpoints, workdir: pathlib.Path
) -> TrainState:
    num_epochs = run.config.training.num_epochs
    if epochs_done >= num_epochs:
        say(f"the training of {num_epochs} epochs is finished already")
        return state
    log = MetricsFile(workdir, epochs_done)
    start = time.perf_counter()
    for epoch in range(epochs_done, num_epochs):
        state, record = train_one_epoch(run, state, epoch, checkpoints, log)
        validation = evaluate_means(
            run.evaluation_step, state.params, run.evaluation_batches["validation"], run.mesh
        )
        record |= {f"validation_{name}": value for name, value in validation.items()}
        record[SELECTION_METRIC] = sum(
            weight * validation[f"loss/{name}"] for name, weight in run.objective.weights.items()
        )
        # First the log: resuming drops records without a checkpoint, but cannot bring any back.
        log.write(record)
        checkpoints.save(state, _run_record(run, epoch + 1, record))

        compiling = run.train_step.seconds + run.evaluation_step.seconds
        per_epoch = (time.perf_counter() - start - compiling) / (epoch + 1 - epochs_done)
        say(epoch_line(record, num_epochs, per_epoch * (num_epochs - epoch - 1)))
    seconds = time.perf_counter() - start
    say(f"trained for {format_duration(seconds)}, {compiling:.0f} s of it compiling")
    return state


def _run_record(run: Run, epochs_done: int, metrics: Record) -> RunRecord:
    numbers = {name: value for name, value in metrics.items() if isinstance(value, float)}
    return RunRecord(
        config=to_plain(run.config),
        statistics=run.statistics,
        epoch=epochs_done,
        metrics=numbers,
        package_version=_package_version(),
    )


def _package_version() -> str:
    try:
        return importlib.metadata.version("equiformer_jax")
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _describe_data(run: Run) -> str:
    sizes = ", ".join(f"{len(source):,} {split}" for split, source in run.sources.items())
    shapes = " or ".join(f"{b.n_node} atoms and {b.n_edge} edges" for b in run.budgets)
    return (
        f"data: {run.config.data.name}, {sizes} structures; "
        f"{run.config.training.batch_size} structures a step, padded to {shapes} on each device; "
        f"batches are {run.fill.nodes:.0%} full of atoms, {run.fill.edges:.0%} of edges"
    )

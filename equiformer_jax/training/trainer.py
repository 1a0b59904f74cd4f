"""The two things that one does with a run: `train` it, and `evaluate` what it has learned.

The processes of a run on several hosts call them together, with the same arguments; the first one
writes, and all get the results.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from ml_collections import config_dict

from equiformer_jax.data.catalog import SPLITS
from equiformer_jax.data.pipeline import Position
from equiformer_jax.data.processes import decided_by_first, is_first_process, require_same
from equiformer_jax.training.checkpoint import Checkpoints, RunRecord
from equiformer_jax.training.checkpoint_choice import choose_checkpoint
from equiformer_jax.training.configuration import flatten, to_plain
from equiformer_jax.training.cpu_cores import idle_cores_note
from equiformer_jax.training.early_checks import check_configuration
from equiformer_jax.training.evaluation import Evaluation
from equiformer_jax.training.initial_weights import load_initial_params
from equiformer_jax.training.loop import train_epochs
from equiformer_jax.training.progress import describe_devices, say
from equiformer_jax.training.run import Run
from equiformer_jax.training.run_facts import RunFacts, package_version
from equiformer_jax.training.state import Params, TrainState, count_parameters, size_in_bytes
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
    settings = to_plain(config)
    _require_same_program(settings)
    workdir = prepare_workdir(workdir)
    with Checkpoints(workdir, config.training.keep_checkpoints, say) as checkpoints:
        newest = checkpoints.newest_good()
        saved = None if newest is None else checkpoints.check_configuration(newest, settings)

        # ---- Data, model, optimizer
        run = Run(config, say, statistics=saved.statistics if saved else None)
        say(f"devices: {describe_devices(run.mesh)}")
        if note := idle_cores_note(config.training.batch_size):
            say(note)
        say(_describe_data(run))
        if is_first_process():
            save_config(workdir, settings)
            save_statistics(workdir, run.data.statistics)

        # ---- Weights
        state, position = _initial_state(run, checkpoints, saved)
        facts = _facts_of(run, state)
        if is_first_process():
            facts.save(workdir)
        shared = f", those of {run.members} models" if run.members > 1 else ""
        say(f"model: {facts.num_parameters:,} parameters{shared}")
        # The newest ones, the best one and the one being written; some of them may be there.
        copies = 2 if saved else config.training.keep_checkpoints + 2
        needed = copies * size_in_bytes(state)
        decided_by_first(lambda: check_free_space(workdir, needed))

        # ---- Training
        state = train_epochs(run, state, position, checkpoints, workdir)
        params, weights = _reported_params(run, state, checkpoints)

    # ---- What has been learned
    return _evaluated(run, params, "test", weights, workdir)


def evaluate(
    workdir: str | os.PathLike[str],
    split: str = "test",
    *,
    checkpoint: str | int = "latest",
    average: bool = False,
    options: Mapping[str, str] | None = None,
    name: str | None = None,
) -> Evaluation:
    """Evaluates weights of a workdir, and writes `<split>_metrics.json` into it.

    Args:
      workdir: directory of a run.
      split: `train`, `validation` or `test`.
      checkpoint: `latest`, `best` or a number of steps (`choose_checkpoint`).
      average: take the moving average of the weights.
      options: `config.data.options` that are to be others, as for a split that the run does not
        know: `{"test": "val_ood_ads"}`.
      name: what to call the split in reports and file names then; needed with `options`.

    Raises:
      WorkdirError: this is not the workdir of a run, or it has no such checkpoint.
      ValueError: the split or the checkpoint is none of these, the run keeps no average, an option
        is unknown, or the name is missing or that of another split.
    """
    if split not in SPLITS:
        raise ValueError(f"split={split!r}; known are {list(SPLITS)}")
    config, workdir = load_config(workdir), pathlib.Path(workdir).expanduser().resolve()
    if options or name is not None:
        _replace_data(config, options or {}, name)
    _require_same_program(to_plain(config))
    with Checkpoints(workdir, config.training.keep_checkpoints, say) as checkpoints:
        step = decided_by_first(lambda: choose_checkpoint(checkpoints, checkpoint))
        statistics = checkpoints.read_record(step).statistics
        run = Run(config, say, statistics=statistics, splits=(split,))
        say(f"devices: {describe_devices(run.mesh)}")
        weights = f"{'their moving average ' if average else 'those '}after {step} steps"
        say(f"weights: {weights}, from {checkpoints.path(step)}")
        params = checkpoints.restore_params(step, run.abstract_params(), average=average)
    return _evaluated(run, params, split, weights, workdir, name)


def _replace_data(
    config: config_dict.ConfigDict, options: Mapping[str, str], name: str | None
) -> None:
    """Puts other options into `config.data`, for an evaluation under another name."""
    if not options or name is None or name in SPLITS or not name.isidentifier():
        raise ValueError(
            f"name={name!r}, options={dict(options)}: other data need both options and a name of "
            f"letters, digits and underscores that is none of {list(SPLITS)}"
        )
    known = dict(config.data.options.items())
    unsuitable = sorted(key for key in options if not isinstance(known.get(key, 0), str | None))
    if unsuitable:
        texts = sorted(key for key, value in known.items() if isinstance(value, str | None))
        raise ValueError(f"options: {unsuitable} cannot be others, only {texts}")
    config.data.options = {**known, **options}
    config.data.limits = dict.fromkeys(SPLITS)  # they were meant for the data of the run


def _require_same_program(settings: Mapping[str, Any]) -> None:
    """Makes sure that all processes of a run run the same: they plan it without asking again."""
    versions = {"jax": jax.__version__, "numpy": np.__version__, "package": package_version()}
    require_same(flatten({"version of": versions, "config": settings}))


def _evaluated(
    run: Run,
    params: Params,
    split: str,
    weights: str,
    workdir: pathlib.Path,
    name: str | None = None,
) -> Evaluation:
    """Evaluates a split; in reports and file names it is called by another name, if it has one."""
    evaluation = run.evaluate(params, split)
    evaluation = dataclasses.replace(evaluation, weights=weights, split=name or split)
    if is_first_process():
        evaluation.save_summary(workdir)
    return evaluation


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
    best = decided_by_first(lambda: checkpoints.best_step)
    if run.config.training.report == "last" or best is None:
        return state.params, f"the last ones, after {int(state.step):,} steps"
    weights = f"the best ones on the validation split, after {best:,} steps"
    say(f"weights for the test: {weights}")
    return checkpoints.restore_params(best, run.abstract_params()), weights


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

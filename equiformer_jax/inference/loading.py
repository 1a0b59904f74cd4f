"""`load`: from the directory of a run to a `Potential`, without the data that it was trained on."""

from __future__ import annotations

import os
import pathlib
import warnings

import jax
import numpy as np
from jax.sharding import SingleDeviceSharding

from equiformer_jax.graph import batch_graphs, build_graph
from equiformer_jax.inference.meaning import meaning_of_run
from equiformer_jax.inference.potential import MAX_EDGES_PER_BATCH, Potential, Say
from equiformer_jax.models.config import EquiformerConfig
from equiformer_jax.models.equiformer import Equiformer
from equiformer_jax.structure import Structure
from equiformer_jax.training.checkpoint import DIRECTORY, Checkpoints
from equiformer_jax.training.checkpoint_choice import choose_checkpoint
from equiformer_jax.training.configuration import model_from_settings
from equiformer_jax.training.errors import CheckpointDamagedError, WorkdirError
from equiformer_jax.training.state import Params


def load(
    path: str | os.PathLike[str],
    checkpoint: str | int = "best",
    average: bool = False,
    *,
    with_forces: bool | None = None,
    max_edges_per_batch: int = MAX_EDGES_PER_BATCH,
    say: Say | None = None,
) -> Potential:
    """Loads what a training has learned, ready to be called with structures.

    Nothing else is needed than the directory: standardization and the rest of the configuration are
    in each checkpoint.

    Args:
      path: workdir of a run, or one of the directories in its `checkpoints`, which then says which
        checkpoint to take.
      checkpoint: `best` (the lowest error on the validation split, `Objective.selection`),
        `latest`, or the number of training steps after which it was written. Where no checkpoint
        has been validated yet, `best` is the latest.
      average: take the moving average of the weights, of a run that keeps one
        (`config.optimizer.ema_decay`), instead of the weights themselves.
      with_forces: as for `Potential`.
      max_edges_per_batch: as for `Potential`.
      say: prints a line, told which weights these are and about compilations.

    Raises:
      WorkdirError: this is not the workdir of a run, or it has no such checkpoint.
      CheckpointFormatError: another version of the package wrote it, in another format.
      CheckpointDamagedError: it is damaged; names the file.
      MissingAverageError: the run keeps no average.
      ValueError: `checkpoint` is none of these, or contradicts the path.
    """
    workdir, wanted = _locate(path, checkpoint)
    if not (workdir / DIRECTORY).is_dir():  # opening would create it
        raise WorkdirError(f"{workdir} is not the workdir of a run: it has no {DIRECTORY}")
    with Checkpoints(workdir, say=say or warnings.warn) as checkpoints:
        step = choose_checkpoint(checkpoints, wanted)
        if (damage := checkpoints.damage(step)) is not None:
            raise CheckpointDamagedError(f"{checkpoints.path(step)} is damaged: {damage}")
        record = checkpoints.read_record(step)
        config = model_from_settings(record.config["model"])
        members = record.config["training"].get("ensemble", 1)
        params = checkpoints.restore_params(step, _template(config, members), average=average)
        if say:
            kind = "moving average of the weights" if average else "weights"
            say(f"{kind} after {step:,} steps from {checkpoints.path(step)}")
    return Potential(
        config,
        params,
        meaning_of_run(record.config, record.statistics),
        with_forces=with_forces,
        max_edges_per_batch=max_edges_per_batch,
        members=members,
        say=say,
    )


def _locate(path: str | os.PathLike[str], checkpoint: str | int) -> tuple[pathlib.Path, str | int]:
    """The workdir, and which of its checkpoints is meant."""
    found = pathlib.Path(path).expanduser().resolve()
    if not found.is_dir():
        raise WorkdirError(f"{found} is not the workdir of a run: there is no such directory")
    is_step = found.parent.name == DIRECTORY and found.name.isdecimal()
    if not is_step:
        return found, checkpoint
    if checkpoint not in ("best", int(found.name)):
        raise ValueError(
            f"checkpoint={checkpoint!r}, but the path is that of checkpoint {found.name}; "
            "give the workdir to choose another one"
        )
    return found.parent.parent, int(found.name)


def _template(config: EquiformerConfig, members: int) -> Params:
    """Shapes, types and place of the parameters of a model, or of those of an ensemble."""
    ones = np.ones(2, np.int32)
    pair = Structure(np.eye(2, 3), ones, tags=ones)
    graph = batch_graphs([build_graph(pair, cutoff=2.0)])
    shapes = jax.eval_shape(Equiformer(config).init, jax.random.key(0), graph)["params"]
    device = SingleDeviceSharding(jax.devices()[0])
    stacked = (members,) if members > 1 else ()
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(stacked + leaf.shape, leaf.dtype, sharding=device), shapes
    )

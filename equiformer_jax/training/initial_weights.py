"""Weights to start from: those of another run, or of the official PyTorch release."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from equiformer_jax.models.config import EquiformerConfig
from equiformer_jax.models.mismatch import describe_mismatch
from equiformer_jax.models.torch_checkpoint import CheckpointMismatchError, variables_from_torch
from equiformer_jax.models.torch_file import TorchFileError
from equiformer_jax.training.checkpoint import DIRECTORY, Checkpoints
from equiformer_jax.training.errors import InitialWeightsError
from equiformer_jax.training.integrity import PARAMS_ITEM, saved_shapes
from equiformer_jax.training.state import Params


def load_initial_params(
    path: str | os.PathLike[str], template: Params, model_config: EquiformerConfig
) -> Params:
    """Reads the parameters that a training starts from, in place of fresh ones.

    Args:
      path: the workdir of a run, of which the newest checkpoint is taken; one of the directories
        in its `checkpoints`; or a PyTorch file of the official release (`.pth.tar`, `.pt`). Of a
        run that keeps a moving average of its parameters, the parameters themselves are taken.
      template: parameters of the new run, or `jax.ShapeDtypeStruct`s with shardings; says what is
        expected, in which precision, and on which devices.
      model_config: the new run's model.

    Returns:
      Parameters like the template.

    Raises:
      InitialWeightsError: there is nothing that can be read at this path; or parameters are
        missing, unexpected or of another shape, which names them all.
      CheckpointDamagedError: a file of the checkpoint is damaged; names it.
    """
    found = pathlib.Path(path).expanduser().resolve()
    if found.is_file():
        return _from_torch_file(found, template, model_config)
    if found.parent.name == DIRECTORY and found.name.isdecimal() and found.is_dir():
        return _from_checkpoint(found.parent.parent, int(found.name), template)
    if (found / DIRECTORY).is_dir():
        return _from_checkpoint(found, None, template)
    raise InitialWeightsError(
        f"cannot start from {found}: expected the workdir of a run, one of its checkpoints, or a "
        "PyTorch file"
    )


def _from_torch_file(
    path: pathlib.Path, template: Params, model_config: EquiformerConfig
) -> Params:
    try:
        params = variables_from_torch(path, model_config)["params"]
    except (CheckpointMismatchError, TorchFileError) as error:
        raise InitialWeightsError(f"cannot start from {path}: {error}") from error
    _check(path, params, template)
    return jax.tree.map(
        lambda leaf, like: jax.device_put(np.asarray(leaf, like.dtype), like.sharding),
        params,
        template,
    )


def _from_checkpoint(workdir: pathlib.Path, step: int | None, template: Params) -> Params:
    with Checkpoints(workdir) as checkpoints:
        step = checkpoints.latest_step if step is None else step
        if step is None:
            raise InitialWeightsError(f"cannot start from {workdir}: it holds no checkpoint")
        folder = checkpoints.path(step)
        checkpoints.check_files(step)
        _check(folder, saved_shapes(folder / PARAMS_ITEM), template)
        return checkpoints.restore_params(step, template)


def _check(path: pathlib.Path, found: Mapping[str, Any], template: Params) -> None:
    """Compares names and shapes of all parameters."""
    problems = describe_mismatch(_shapes_by_name(found), _shapes_by_name(template))
    if problems:
        raise InitialWeightsError(
            f"the parameters in {path} are not those of this model; {problems}"
        )


def _shapes_by_name(tree: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): tuple(leaf.shape)
        for path, leaf in leaves
    }

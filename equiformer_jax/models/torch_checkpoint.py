"""Parameters of the official PyTorch release: in, and out again, bit for bit."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from equiformer_jax.models.config import EquiformerConfig
from equiformer_jax.models.mismatch import describe_mismatch
from equiformer_jax.models.torch_file import read_state_dict
from equiformer_jax.models.torch_layout import Slot, TreePath, parameter_slots
from equiformer_jax.ops.radial import exponential_centers

# Constants and generated code that the official modules store beside their parameters.
IGNORED_SUFFIXES = ("output_mask", "rbf.means", "rbf.betas", "atomref", "task_mean", "task_std")
IGNORED_PARTS = ("_compiled_main", "_w3j", ".tp.weight_view", "acts.")


class CheckpointMismatchError(ValueError):
    """The parameters are not those of this model; the message names every one that does not fit."""


def variables_from_torch(
    state_dict: Mapping[str, Any] | str | os.PathLike[str], config: EquiformerConfig
) -> dict[str, Any]:
    """Parameters of the official model as variables of `Equiformer(config)`.

    Nothing is computed: the same numbers in another place, in their own precision.

    Args:
      state_dict: official parameter names to arrays; or a checkpoint file (`.pth.tar`, or OC20's
        `.pt` with its `module.module.` prefix), which is read without PyTorch and without executing
        anything in it.
      config: the model.

    Returns:
      `{"params": ...}` with NumPy leaves.

    Raises:
      CheckpointMismatchError: a parameter is missing, unexpected or of another shape; all are
        named.
      TorchFileError: the file cannot be read.
    """
    if isinstance(state_dict, str | os.PathLike):
        state_dict = read_state_dict(state_dict)
    arrays = {_strip_prefix(name): np.asarray(value) for name, value in state_dict.items()}
    slots = list(parameter_slots(config))
    _check(arrays, slots)
    _check_constants(arrays, config)
    return {"params": unpack_slots(slots, arrays)}


def unpack_slots(slots: Iterable[Slot], arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Fills the leaves of some slots and returns them as a nested tree.

    Args:
      slots: which parameters, of a whole model or of one module.
      arrays: official names to arrays.
    """
    leaves: dict[TreePath, Any] = {}
    for slot in slots:
        # Plain arrays of one number may come without their axes; numbers decide, not brackets.
        for path, leaf in zip(
            slot.paths, slot.unpack(arrays[slot.name].reshape(slot.shape)), strict=True
        ):
            if slot.layer is None:
                leaves[path] = np.array(leaf)
            else:
                leaves.setdefault(path, []).append(leaf)
    return _nest({path: np.stack(x) if isinstance(x, list) else x for path, x in leaves.items()})


def variables_to_torch(
    variables: Mapping[str, Any], config: EquiformerConfig
) -> dict[str, np.ndarray]:
    """The inverse of `variables_from_torch`: official parameter names to arrays.

    The fixed buffers of the official radial basis are included.

    Args:
      variables: `{"params": ...}` of `Equiformer(config)`.
      config: the model.

    Returns:
      Arrays in the precision of the variables.

    Raises:
      CheckpointMismatchError: the tree lacks a parameter of this model.
    """
    state_dict = {}
    for slot in parameter_slots(config):
        leaves = [_leaf(variables["params"], path) for path in slot.paths]
        if slot.layer is not None:
            leaves = [leaf[slot.layer] for leaf in leaves]
        state_dict[slot.name] = np.array(slot.pack(leaves)).reshape(slot.shape)
    dtype = next(iter(state_dict.values())).dtype
    return state_dict | {name: x.astype(dtype) for name, x in _constants(config).items()}


def _constants(config: EquiformerConfig) -> dict[str, np.ndarray]:
    """What the official modules keep beside their parameters and the configuration determines."""
    if config.basis_type != "exp":
        return {}
    centers, beta = exponential_centers(config.number_of_basis, config.max_radius)
    return {"rbf.means": centers, "rbf.betas": np.full(config.number_of_basis, beta)}


def _check_constants(arrays: Mapping[str, np.ndarray], config: EquiformerConfig) -> None:
    for name, ours in _constants(config).items():
        if name in arrays and not (
            arrays[name].shape == ours.shape and np.allclose(arrays[name], ours, rtol=1e-5)
        ):
            raise CheckpointMismatchError(
                f"the checkpoint's {name} do not belong to max_radius={config.max_radius} and "
                f"number_of_basis={config.number_of_basis}"
            )


def _strip_prefix(name: str) -> str:
    while name.startswith("module."):
        name = name.removeprefix("module.")
    return name


def _is_ignored(name: str) -> bool:
    return name.endswith(IGNORED_SUFFIXES) or any(part in name for part in IGNORED_PARTS)


def _check(arrays: Mapping[str, np.ndarray], slots: list[Slot]) -> None:
    problems = describe_mismatch(
        {name: array.shape for name, array in arrays.items()},
        {slot.name: slot.shape for slot in slots},
        ignored=[name for name in arrays if _is_ignored(name)],
        ones_count=False,
    )
    if problems:
        raise CheckpointMismatchError(f"the checkpoint does not fit the configuration; {problems}")


def _leaf(tree: Mapping[str, Any], path: TreePath) -> np.ndarray:
    for key in path:
        if key not in tree:
            raise CheckpointMismatchError(f"the variables have no parameter {'/'.join(path)}")
        tree = tree[key]
    return np.asarray(tree)


def _nest(leaves: Mapping[TreePath, np.ndarray]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for path, leaf in leaves.items():
        node = tree
        for key in path[:-1]:
            node = node.setdefault(key, {})
        node[path[-1]] = leaf
    return tree

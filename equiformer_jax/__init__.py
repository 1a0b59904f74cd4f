"""Equiformer, the equivariant graph attention transformer for atomistic systems, in JAX."""

from __future__ import annotations

from equiformer_jax.compatibility import check_jax_version

check_jax_version()

from equiformer_jax import training  # noqa: E402
from equiformer_jax.graph import batch_graphs, build_graph  # noqa: E402
from equiformer_jax.inference.calculator import EquiformerCalculator  # noqa: E402
from equiformer_jax.inference.dynamics.evaluator import ForceEvaluator  # noqa: E402
from equiformer_jax.inference.loading import load  # noqa: E402
from equiformer_jax.inference.potential import Potential  # noqa: E402
from equiformer_jax.models.config import EquiformerConfig  # noqa: E402
from equiformer_jax.models.equiformer import Equiformer  # noqa: E402
from equiformer_jax.models.potential import energy_and_forces  # noqa: E402
from equiformer_jax.models.presets import get_preset, list_presets  # noqa: E402
from equiformer_jax.models.torch_checkpoint import variables_from_torch, variables_to_torch  # noqa: E402
from equiformer_jax.structure import (  # noqa: E402
    Structure,
    structure_from_ase,
    structure_to_ase,
)

__version__ = "0.1.0"

__all__ = [
    "Equiformer",
    "EquiformerCalculator",
    "EquiformerConfig",
    "ForceEvaluator",
    "Potential",
    "Structure",
    "batch_graphs",
    "build_graph",
    "energy_and_forces",
    "get_preset",
    "list_presets",
    "load",
    "structure_from_ase",
    "structure_to_ase",
    "training",
    "variables_from_torch",
    "variables_to_torch",
]

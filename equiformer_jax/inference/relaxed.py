"""Relaxed positions from predicted displacements, and whether there is a stress to predict."""

from __future__ import annotations

import numpy as np

from equiformer_jax.structure import Structure


def has_volume(structure: Structure) -> bool:
    """Whether the structure can have a stress."""
    return structure.cell is not None and bool(np.linalg.det(structure.cell))


def relaxed_positions(structure: Structure, displacements: np.ndarray) -> np.ndarray:
    """Where predicted displacements take the atoms, `[n, 3]` in angstrom.

    Atoms below the surface stay: no training has shown the model where they would go.

    Args:
      structure: with `tags`, if it has a surface.
      displacements: `[n, 3]` in angstrom.
    """
    moved = structure.positions + displacements
    if structure.tags is None:
        return moved
    return np.where(structure.tags[:, None] == 0, structure.positions, moved)

"""Displacements in periodic systems: of all images of a vector, the shortest.

A relaxation may carry an atom across the cell, and the stored positions then differ by a lattice
vector more than the atom moved.
"""

from __future__ import annotations

import numpy as np
from ase.geometry.geometry import general_find_mic

from equiformer_jax.structure import Structure


def minimum_image_displacement(
    vectors: np.ndarray, cell: np.ndarray | None, pbc: tuple[bool, bool, bool]
) -> np.ndarray:
    """The shortest of the images `v + n · cell` of each vector, for a cell of any shape.

    Rounding fractional coordinates gives it in cells that are close to orthogonal. A result is
    known to be the shortest if it is no longer than half the shortest lattice vector, and that is
    at least as long as the smallest distance of opposite faces; other vectors take ASE's search in
    the Minkowski-reduced cell. (`ase.geometry.find_mic` would compare with half the shortest *cell*
    vector, which is not enough in skewed cells.)

    Args:
      vectors: `[N, 3]`, Å.
      cell: `[3, 3]`, Å, one lattice vector per row; may be None where nothing repeats.
      pbc: along which of the lattice vectors the system repeats.

    Returns:
      float64 `[N, 3]`, Å; of images of equal length any one.

    Raises:
      ValueError: an argument has another shape or is not finite, or the periodic lattice vectors
        are not independent.
    """
    vectors = _finite("vectors", vectors, (-1, 3))
    periodic = np.asarray(pbc, bool)
    if periodic.shape != (3,):
        raise ValueError(f"pbc: expected three booleans, got {pbc!r}")
    if not periodic.any():
        return vectors
    if cell is None:
        raise ValueError("cell: needed because the system is periodic, got None")
    lattice = _finite("cell", cell, (3, 3))[periodic]
    if np.linalg.matrix_rank(lattice) < len(lattice):
        raise ValueError(f"cell: its periodic vectors must be independent, got {lattice.tolist()}")

    # Fractional coordinates along the periodic directions alone: [N, number of them].
    to_fractions = np.linalg.pinv(lattice)
    result = vectors - np.round(vectors @ to_fractions) @ lattice
    smallest_height = 1 / np.linalg.norm(to_fractions, axis=0).max()
    unsure = np.linalg.norm(result, axis=1) > smallest_height / 2
    if unsure.any():
        # Open directions are zero here, which ASE replaces by perpendicular ones.
        closed = np.zeros((3, 3))
        closed[periodic] = lattice
        result[unsure], _ = general_find_mic(result[unsure], closed, pbc=periodic)
    return result


def relaxation_displacements(structure: Structure) -> np.ndarray:
    """How far and where each atom moves when the structure relaxes, as IS2RS predicts it.

    Args:
      structure: N atoms, with `relaxed_positions`.

    Returns:
      float64 `[N, 3]`, Å, from the positions to the nearest image of the relaxed ones.

    Raises:
      ValueError: the structure has no relaxed positions.
    """
    if structure.relaxed_positions is None:
        raise ValueError("relaxed_positions: needed for the displacements, got None")
    difference = structure.relaxed_positions - structure.positions
    return minimum_image_displacement(difference, structure.cell, structure.pbc)


def _finite(name: str, values: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """float64 copy `[N, 3]`, or of the given number of rows."""
    array = np.array(values, np.float64)
    if array.ndim != 2 or array.shape[1] != shape[1] or shape[0] not in (-1, len(array)):
        rows = "N" if shape[0] == -1 else shape[0]
        raise ValueError(f"{name}: expected shape [{rows}, {shape[1]}], got {list(array.shape)}")
    if not np.isfinite(array).all():
        raise ValueError(f"{name}: not finite")
    return array

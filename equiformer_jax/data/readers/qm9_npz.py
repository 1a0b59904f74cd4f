"""Reads molecules of QM9 from one compact file of arrays: not a public format, but derived."""

from __future__ import annotations

import os
import pathlib

import numpy as np

from equiformer_jax.data.errors import DataError
from equiformer_jax.data.readers.npz_file import read_npz
from equiformer_jax.data.readers.qm9_molecules import QM9Molecules
from equiformer_jax.data.readers.qm9_targets import ELEMENTS, PUBLISHED_COLUMNS

# Kinds of numbers and shapes: M molecules, A atoms.
_ARRAYS = {
    "mol_id": ("iu", "M"),
    "n_atoms": ("iu", "M"),
    "z": ("iu", "A"),
    "pos": ("f", "A3"),
    "columns": ("U", "L"),
    "y": ("f", "ML"),
    "uncharacterized": ("b", "M"),
}


def read_qm9_npz(path: str | os.PathLike[str], target: str | int | None = None) -> QM9Molecules:
    """Reads the characterized molecules of a file of flat arrays.

    Args:
      path: an npz file with, for M molecules of A atoms together, `mol_id` [M] (1-based), `n_atoms`
        [M], `z` [A], `pos` [A, 3] (Å), `columns` [19] (`PUBLISHED_COLUMNS`), `y` [M, 19] (as
        published) and `uncharacterized` [M] (true: left out). Other arrays are ignored.
      target: name or number of the target to be `Structure.energy`.

    Returns:
      The molecules in ascending order of their ids, with the labels converted.

    Raises:
      FileNotFoundError: the file is not there.
      DataError: the file is damaged, or an array is missing or not as described.
      ValueError: the target is unknown.
    """
    path = pathlib.Path(path)
    arrays = read_npz(path, list(_ARRAYS))
    _check(path, arrays)
    counts, kept = arrays["n_atoms"].astype(np.int64), ~arrays["uncharacterized"]
    of_kept = np.repeat(kept, counts)
    return QM9Molecules(
        path,
        arrays["mol_id"][kept],
        counts[kept],
        arrays["z"][of_kept],
        arrays["pos"][of_kept],
        arrays["y"][kept],
        target,
    )


def _check(path: pathlib.Path, arrays: dict[str, np.ndarray]) -> None:
    sizes = {"M": arrays["mol_id"].size, "A": arrays["z"].size, "L": len(PUBLISHED_COLUMNS), "3": 3}
    for name, (kinds, dimensions) in _ARRAYS.items():
        shape = tuple(sizes[dimension] for dimension in dimensions)
        found = arrays[name]
        if found.shape != shape or found.dtype.kind not in kinds:
            message = f"expected shape {shape} of kind {kinds}, got {found.shape} {found.dtype}"
            raise DataError(path, message, field=name)
    if tuple(arrays["columns"]) != PUBLISHED_COLUMNS:
        raise DataError(path, f"expected {PUBLISHED_COLUMNS}", field="columns")
    if arrays["n_atoms"].min(initial=1) < 1 or arrays["n_atoms"].sum() != arrays["z"].size:
        message = f"expected positive numbers that sum to {arrays['z'].size}, the length of 'z'"
        raise DataError(path, message, field="n_atoms")
    unknown = np.flatnonzero(~np.isin(arrays["z"], list(ELEMENTS.values())))
    if len(unknown):
        message = f"expected one of {list(ELEMENTS.values())}, got {arrays['z'][unknown[0]]}"
        raise DataError(path, message, record=f"atom {unknown[0]}", field="z")

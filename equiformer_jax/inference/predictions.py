"""Predictions in files: extended XYZ to look at and to go on with, or flat arrays to compute with.

Beside each prediction stands what the input said, as `reference_...`. An `.npz` file has, for `n`
structures of together `A` atoms,

    offsets [n + 1]                 the atoms of structure i are offsets[i] : offsets[i + 1]
    positions [A, 3]  atomic_numbers [A]  cell [n, 3, 3]  pbc [n, 3]
    energy [n]  forces [A, 3]  stress [n, 3, 3]  relaxed_positions [A, 3]  relaxed_energy [n]
    reference_energy [n]  reference_forces [A, 3]  ...

in Å, eV, eV/Å and eV/Å³, and of an ensemble how far its members differ, `spread_energy [n]` and
`spread_forces [A, 3]`. Labels that no structure has are left out; those that only some have are
NaN for the others. Cells are zero where there is none.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import IO, Any

import ase
import ase.io
import numpy as np

from equiformer_jax.inference.relaxed import has_volume, relaxed_positions
from equiformer_jax.structure import Structure, structure_to_ase
from equiformer_jax.training.ensemble import SPREAD_PREFIX
from equiformer_jax.training.evaluation import Evaluation

EXTXYZ_SUFFIXES = (".extxyz", ".xyz")
SUFFIXES = (*EXTXYZ_SUFFIXES, ".npz")
PREFIX = "reference_"

Pair = tuple[Structure, Structure]  # what was given, and what was predicted for it
# Labels, and the shape of each for one structure; -1 stands for its atoms.
LABELS: dict[str, tuple[int, ...]] = {
    "energy": (),
    "forces": (-1, 3),
    "stress": (3, 3),
    "relaxed_positions": (-1, 3),
    "relaxed_energy": (),
}
# What an ensemble adds to `Structure.properties`.
SPREADS: dict[str, tuple[int, ...]] = {
    SPREAD_PREFIX + "energy": (),
    SPREAD_PREFIX + "forces": (-1, 3),
}


def check_suffix(path: str | os.PathLike[str]) -> None:
    """Refuses names of files that `write_predictions` cannot write.

    Raises:
      ValueError: names the suffixes that there are.
    """
    if pathlib.Path(path).suffix not in SUFFIXES:
        raise ValueError(f"{os.fspath(path)}: expected a name that ends in one of {list(SUFFIXES)}")


def write_predictions(
    path: str | os.PathLike[str],
    structures: Iterable[Structure],
    predictions: Iterable[Structure],
) -> pathlib.Path:
    """Writes predictions, and the labels of the input as references.

    The file is there when it is whole, and an older one until then.

    Args:
      path: ends in `.extxyz` or `.xyz`, or in `.npz`; the module's text describes the latter. Its
        folder exists.
      structures: what was predicted; read one after another.
      predictions: the same structures with predicted labels, in the same order; for `.extxyz` read
        and written one after another.

    Returns:
      The path.

    Raises:
      ValueError: the suffix is another, there are more of the one than of the other, or there is
        none.
      OSError: the file cannot be written.
    """
    check_suffix(path)
    path = pathlib.Path(path)
    pairs = _at_least_one(zip(structures, predictions, strict=True))
    if path.suffix in EXTXYZ_SUFFIXES:
        with _replacing(path, "w") as file:
            for structure, prediction in pairs:
                atoms = _with_references(structure, prediction)
                ase.io.write(file, atoms, format="extxyz")
    else:
        arrays = _arrays(list(pairs))
        with _replacing(path, "wb") as file:
            np.savez(file, allow_pickle=False, **arrays)
    return path


def write_evaluation(
    path: str | os.PathLike[str], evaluation: Evaluation, objective: Mapping[str, Any]
) -> pathlib.Path:
    """Writes what a model says about a whole split, as `write_predictions` does.

    There is all that the run has learned, and under the same names as `Potential` has it: forces,
    stress, relaxed energies and positions, and the spread of an ensemble.

    Args:
      path: as for `write_predictions`.
      evaluation: of the split.
      objective: `config.objective` of the run; says what its energies and displacements are.

    Raises:
      ValueError: as `write_predictions`.
      OSError: the file cannot be written.
    """
    return write_predictions(path, evaluation.structures, _predicted(evaluation, objective))


def _predicted(evaluation: Evaluation, objective: Mapping[str, Any]) -> Iterator[Structure]:
    """The structures of an evaluation with its predictions for labels."""
    is_relaxed = objective["kind"] == "relaxation"
    displacements = evaluation.predicted_displacements
    unit = objective.get("displacement_std")
    if displacements is not None:  # a head that was not trained says nothing
        displacements = None if unit is None else unit * displacements
    first = 0
    pairs = zip(evaluation.structures, evaluation.predicted_energies, strict=True)
    for index, (structure, energy) in enumerate(pairs):
        atoms = slice(first, first + structure.num_atoms)
        spreads = {
            SPREAD_PREFIX + "energy": _part(evaluation.spread_energies, index),
            SPREAD_PREFIX + "forces": _part(evaluation.spread_forces, atoms),
        }
        spreads = {name: value for name, value in spreads.items() if value is not None}
        displaced = _part(displacements, atoms)
        yield dataclasses.replace(
            structure,
            energy=energy,
            forces=_part(evaluation.predicted_forces, atoms),
            stress=_part(evaluation.predicted_stress, index) if has_volume(structure) else None,
            relaxed_positions=(
                None if displaced is None else relaxed_positions(structure, displaced)
            ),
            relaxed_energy=energy if is_relaxed else None,
            properties={**structure.properties, **spreads},
        )
        first = atoms.stop


def _part(values: np.ndarray | None, which: int | slice) -> Any:
    return None if values is None else values[which]


def _at_least_one(pairs: Iterable[Pair]) -> Iterator[Pair]:
    """The pairs, unless there is none: neither format has a way to say so."""
    pair = None
    for pair in pairs:
        yield pair
    if pair is None:
        raise ValueError("structures: expected at least one to write predictions of, got none")


@contextlib.contextmanager
def _replacing(path: pathlib.Path, mode: str) -> Iterator[IO[Any]]:
    """An open file that takes the place of `path` when all has been written."""
    encoding = None if "b" in mode else "utf-8"
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".partial")
    try:
        with os.fdopen(descriptor, mode, encoding=encoding) as file:
            yield file
            file.flush()
            os.fchmod(file.fileno(), 0o644)
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        pathlib.Path(temporary).unlink()
        raise


def _with_references(structure: Structure, prediction: Structure) -> ase.Atoms:
    """The prediction as ASE has it, and the labels of the input under names of their own."""
    atoms = structure_to_ase(prediction)
    for name, shape in SPREADS.items():
        if -1 in shape and name in atoms.info:
            atoms.set_array(name, atoms.info.pop(name))
    for name, shape in LABELS.items():
        value = getattr(structure, name)
        if value is None:
            continue
        if -1 in shape:
            atoms.set_array(PREFIX + name, value)
        else:
            atoms.info[PREFIX + name] = value
    return atoms


def _arrays(pairs: Sequence[Pair]) -> dict[str, np.ndarray]:
    """The flat arrays of at least one structure."""
    found = [prediction for _, prediction in pairs]
    counts = [each.num_atoms for each in found]
    arrays = {
        "offsets": np.cumsum([0, *counts]),
        "positions": np.concatenate([each.positions for each in found]),
        "atomic_numbers": np.concatenate([each.atomic_numbers for each in found]),
        "cell": np.stack([np.zeros((3, 3)) if e.cell is None else e.cell for e in found]),
        "pbc": np.array([each.pbc for each in found]),
    }
    for prefix, column in (("", 1), (PREFIX, 0)):
        for name, shape in LABELS.items():
            values = [getattr(pair[column], name) for pair in pairs]
            if any(value is not None for value in values):
                arrays[prefix + name] = _filled(values, shape, counts)
    for name, shape in SPREADS.items():
        values = [each.properties.get(name) for each in found]
        if any(value is not None for value in values):
            arrays[name] = _filled(values, shape, counts)
    return arrays


def _filled(values: Sequence[Any], shape: tuple[int, ...], counts: Sequence[int]) -> np.ndarray:
    """One array of the values of all structures, NaN where there is none."""
    per_atom = -1 in shape
    rows = [
        np.full([count if size == -1 else size for size in shape], np.nan)
        if value is None
        else np.asarray(value, np.float64)
        for value, count in zip(values, counts, strict=True)
    ]
    return np.concatenate(rows) if per_atom else np.stack(rows)

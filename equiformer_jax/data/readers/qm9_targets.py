"""The nineteen targets of QM9: their numbers, units and atomic reference energies.

QM9 is published in Hartree, kcal/mol, Debye, bohr and GHz. The numbers 0 to 18 under which papers
report its targets, and the conversion to eV, are those of the common processing of `gdb9.sdf.csv`:
its columns, with the rotational constants moved to the end (SPEC.md section 12.2).
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Mapping

import numpy as np

from equiformer_jax.data.errors import DataError
from equiformer_jax.data.units import QM9_EV_PER_HARTREE, QM9_EV_PER_KCAL_MOL

# With which the columns `*_atom` of `gdb9.sdf.csv` were made from the Hartree columns.
HARTREE_TO_KCAL_PER_MOL = 627.509

# The columns of `gdb9.sdf.csv` after `mol_id`; the first fifteen are those of the raw xyz files.
PUBLISHED_COLUMNS = (
    *("A", "B", "C", "mu", "alpha", "homo", "lumo", "gap", "r2", "zpve"),
    *("u0", "u298", "h298", "g298", "cv", "u0_atom", "u298_atom", "h298_atom", "g298_atom"),
)

ELEMENTS: Mapping[str, int] = {"H": 1, "C": 6, "N": 7, "O": 8, "F": 9}


@dataclasses.dataclass(frozen=True)
class Target:
    """One of the nineteen targets.

    Attributes:
      number: 0 to 18, as in papers.
      name: the column of `gdb9.sdf.csv`.
      unit: after the conversion.
      factor: what a published value is multiplied by.
      subtracts_references: whether the atoms' reference energies are subtracted, so that what is
        left is an energy of atomization.
    """

    number: int
    name: str
    unit: str
    factor: float = 1.0
    subtracts_references: bool = False


def _energy(number: int, name: str, subtracts_references: bool = False) -> Target:
    return Target(number, name, "eV", QM9_EV_PER_HARTREE, subtracts_references)


TARGETS = (
    Target(0, "mu", "D"),
    Target(1, "alpha", "a0^3"),
    _energy(2, "homo"),
    _energy(3, "lumo"),
    _energy(4, "gap"),
    Target(5, "r2", "a0^2"),
    _energy(6, "zpve"),
    _energy(7, "u0", subtracts_references=True),
    _energy(8, "u298", subtracts_references=True),
    _energy(9, "h298", subtracts_references=True),
    _energy(10, "g298", subtracts_references=True),
    Target(11, "cv", "cal/(mol K)"),
    Target(12, "u0_atom", "eV", QM9_EV_PER_KCAL_MOL),
    Target(13, "u298_atom", "eV", QM9_EV_PER_KCAL_MOL),
    Target(14, "h298_atom", "eV", QM9_EV_PER_KCAL_MOL),
    Target(15, "g298_atom", "eV", QM9_EV_PER_KCAL_MOL),
    Target(16, "A", "GHz"),
    Target(17, "B", "GHz"),
    Target(18, "C", "GHz"),
)

_ALIASES = {"U0": "u0", "U": "u298", "H": "h298", "G": "g298", "Cv": "cv"}

# The columns of `atomref.txt` that are used; the first one after the element, ZPVE, is zero.
_REFERENCE_COLUMNS = {"u0": 2, "u298": 3, "h298": 4, "g298": 5}

# Published in `atomref.txt`, Hartree: U(0 K), U, H and G (298.15 K) of the free atoms.
_REFERENCES_HARTREE = {
    1: (-0.500273, -0.498857, -0.497912, -0.510927),
    6: (-37.846772, -37.845355, -37.844411, -37.861317),
    7: (-54.583861, -54.582445, -54.581501, -54.598897),
    8: (-75.064579, -75.063163, -75.062219, -75.079532),
    9: (-99.718730, -99.717314, -99.716370, -99.733544),
}

# Energy of a free atom in eV, by the name of the target and the atomic number.
#
# The table in eV that the published results were processed with was converted with 27.211386024: a
# molecule's label differs from ours by at most 0.1 meV, less than its float32 rounding there.
ATOMIC_REFERENCES: Mapping[str, Mapping[int, float]] = {
    name: {z: values[place] * QM9_EV_PER_HARTREE for z, values in _REFERENCES_HARTREE.items()}
    for place, name in enumerate(_REFERENCE_COLUMNS)
}


def find_target(target: str | int) -> Target:
    """The target of a name or number.

    Args:
      target: 0 to 18, a name of `TARGETS`, or one of the papers' U0, U, H, G and Cv.

    Raises:
      ValueError: there is no such target; lists them.
    """
    for candidate in TARGETS:
        if target == candidate.number or _ALIASES.get(str(target), target) == candidate.name:
            return candidate
    known = ", ".join(f"{known.number} {known.name}" for known in TARGETS)
    raise ValueError(f"target: unknown QM9 target {target!r}; expected one of {known}")


def read_atomic_references(path: str | os.PathLike[str]) -> dict[str, dict[int, float]]:
    """Reads the public `atomref.txt`, in the form of `ATOMIC_REFERENCES`.

    Args:
      path: a text file; rows start with an element and give ZPVE, U(0 K), U, H and G (298.15 K) in
        Hartree and the heat capacity.

    Returns:
      Energies of free atoms in eV, by the name of the target and the atomic number.

    Raises:
      FileNotFoundError: the file is not there.
      DataError: an element is missing or its row is damaged.
    """
    path = pathlib.Path(path)
    text = path.read_text(encoding="utf-8", errors="replace")
    rows = {fields[0]: fields for fields in map(str.split, text.splitlines()) if fields}
    references: dict[str, dict[int, float]] = {name: {} for name in _REFERENCE_COLUMNS}
    for element, number in ELEMENTS.items():
        if element not in rows:
            raise DataError(path, f"no row for {element}; expected one for each of H, C, N, O, F")
        for name, column in _REFERENCE_COLUMNS.items():
            references[name][number] = _reference(path, rows[element], name, column)
    return references


def _reference(path: pathlib.Path, fields: list[str], name: str, column: int) -> float:
    try:
        value = float(fields[column])
    except (IndexError, ValueError) as error:
        found = " ".join(fields)
        raise DataError(
            path, f"expected six numbers after the element, got '{found}'", record=fields[0]
        ) from error
    if not np.isfinite(value):
        raise DataError(path, f"not finite: {value}", record=fields[0], field=name)
    return value * QM9_EV_PER_HARTREE


def convert_published(
    published: np.ndarray, atomic_numbers: np.ndarray, counts: np.ndarray
) -> np.ndarray:
    """Converts published columns to the targets, in their order and units.

    Without the four columns `*_atom` (the raw xyz files have none) these follow from U0, U, H and G
    minus the references of the same quantity and temperature, as in `gdb9.sdf.csv`.

    Args:
      published: float64 `[M, 19]` in the order of `PUBLISHED_COLUMNS`, or its first 15 columns.
      atomic_numbers: `[A]` of all atoms, one molecule after another.
      counts: `[M]` atoms of each molecule, at least one; they sum to A.

    Returns:
      float64 `[M, 19]`, in the order and units of `TARGETS`.
    """
    values = np.empty((len(published), len(TARGETS)))
    for target in TARGETS:
        column = PUBLISHED_COLUMNS.index(target.name)
        if column < published.shape[1]:
            values[:, target.number] = published[:, column] * target.factor
        if target.subtracts_references:
            values[:, target.number] -= _sum_references(target.name, atomic_numbers, counts)
    if published.shape[1] < len(PUBLISHED_COLUMNS):
        digits = HARTREE_TO_KCAL_PER_MOL * QM9_EV_PER_KCAL_MOL / QM9_EV_PER_HARTREE
        values[:, 12:16] = values[:, 7:11] * digits
    return values


def _sum_references(name: str, atomic_numbers: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Reference energies of each molecule's atoms, eV `[M]`."""
    by_number = np.zeros(max(ELEMENTS.values()) + 1)
    for number, energy in ATOMIC_REFERENCES[name].items():
        by_number[number] = energy
    return np.add.reduceat(by_number[atomic_numbers], np.cumsum(counts) - counts)

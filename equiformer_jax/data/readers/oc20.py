"""OC20: adsorbates on catalyst surfaces, as the Open Catalyst Project publishes them in LMDB files.

Each value of such a file is a pickled graph; `graph_objects` reads it without running it. Lengths
are in Å, energies in eV, forces in eV/Å, as they are here. Energies are adsorption energies: those
of the clean surface and of the gas phase are subtracted. The edges that some files carry are not
read: graphs are built from the positions. `oc20_extxyz` reads the S2EF archives as they come.
"""

from __future__ import annotations

import os
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from equiformer_jax.data.errors import DataError
from equiformer_jax.data.readers.graph_objects import read_graph_object
from equiformer_jax.data.readers.lmdb_file import LmdbRecords
from equiformer_jax.data.structures import StructureSequence, digest
from equiformer_jax.structure import Structure

# Field of a `Structure` -> its names in the files; the second ones are those of newer writers.
_GEOMETRY = {
    "positions": ("pos",),
    "atomic_numbers": ("atomic_numbers",),
    "cell": ("cell",),
    "tags": ("tags",),
    "fixed": ("fixed",),
}
_IS2RE_LABELS = {
    "energy": ("y_init",),
    "forces": ("force", "forces"),
    "relaxed_energy": ("y_relaxed",),
    "relaxed_positions": ("pos_relaxed",),
}
_S2EF_LABELS = {"energy": ("y", "energy"), "forces": ("force", "forces")}
_NUMBERS = ("energy", "relaxed_energy")
_IDS = ("sid", "fid")

_LARGEST_TAG = 2
_TOO_LARGE = 2**62

Names = Mapping[str, tuple[str, ...]]
"""Field of a `Structure` -> what it may be called in a record."""


class LmdbStructures(StructureSequence):
    """Structures that are made from LMDB records when they are asked for.

    Attributes:
      records: where they are.
    """

    def __init__(self, records: LmdbRecords, labels: Names) -> None:
        """Takes records of OC20.

        Args:
          records: pickled graphs.
          labels: fields of a `Structure` that a record may have, and their names there.
        """
        self.records = records
        self._labels = dict(labels)

    def __len__(self) -> int:
        return len(self.records)

    def structure(self, index: int) -> Structure:
        """Structure `index`, with whatever labels its record has.

        Raises:
          DataError: the record is missing, damaged or hostile, or lacks a field, or a field has
            another type, shape or value than it can have.
        """
        file, record = self.records.place(index)
        fields = read_graph_object(self.records.value(index), file, record)
        return _structure(fields, self._labels, file, record)

    def name_of(self, index: int) -> str:
        """File and number of the record."""
        file, record = self.records.place(index)
        return f"{file}: record {record}"

    @property
    def fingerprint(self) -> str:
        """That of the files."""
        return digest(self.records.fingerprint, repr(self._labels))


def read_oc20_is2re(path: str | os.PathLike[str]) -> LmdbStructures:
    """Reads IS2RE and IS2RS: initial structures and what they relax to (SPEC.md §12.4).

    `energy` and `forces` are those of the given positions (`y_init`, `force`), `relaxed_energy` and
    `relaxed_positions` belong to the relaxed structure (`y_relaxed`, `pos_relaxed`). What the IS2RE
    task predicts from the given positions is `relaxed_energy`, so that, not `energy`, is the target
    of its training. The splits to test on have none of these. The relaxed positions may have
    crossed the cell: `minimum_image.relaxation_displacements` gives the IS2RS target.

    Args:
      path: an `.lmdb` file, or a folder of them.

    Returns:
      Structures that repeat in all directions, read when they are asked for, with `tags` (0 below
      the surface, 1 surface, 2 adsorbate), `fixed` and, in `properties`, `sid`, the number of the
      system.

    Raises:
      FileNotFoundError: there is nothing at `path`.
      DataError: as `LmdbRecords`.
    """
    return LmdbStructures(LmdbRecords(path), _IS2RE_LABELS)


def read_oc20_s2ef(path: str | os.PathLike[str]) -> LmdbStructures:
    """Reads S2EF: structures from relaxations and dynamics with their energies and forces.

    Args:
      path: a folder of `data.0000.lmdb`, `data.0001.lmdb`, ..., or one such file.

    Returns:
      As `read_oc20_is2re`, with `energy` and `forces` where the split has labels; `properties` has
      `sid` and `fid`, the number of the frame in its trajectory, where the file has them. Whether
      the energies are adsorption energies was chosen by whoever made the file; those of the
      published benchmarks are.

    Raises:
      FileNotFoundError: there is nothing at `path`.
      DataError: as `LmdbRecords`.
    """
    return LmdbStructures(LmdbRecords(path), _S2EF_LABELS)


def check_tags(structure: Structure) -> None:
    """Makes sure that the tags, where there are any, are those of OC20.

    Raises:
      ValueError: one is not 0, 1 or 2.
    """
    tags = np.zeros(0) if structure.tags is None else structure.tags
    wrong = np.flatnonzero((tags < 0) | (tags > _LARGEST_TAG))
    if len(wrong):
        atom = int(wrong[0])
        raise ValueError(f"tags: atom {atom}: expected 0, 1 or 2, got {tags[atom]}")


def _structure(
    fields: Mapping[str, Any], labels: Names, file: pathlib.Path, record: int
) -> Structure:
    """What a record's fields describe; a complaint names the field as the file does."""
    names = _names_in(fields, labels, file, record)
    values: dict[str, Any] = {}
    for target, name in names.items():
        value = fields[name]
        try:
            values[target] = _number(value) if target in _NUMBERS else _array(value)
        except ValueError as error:
            raise DataError(file, str(error), record=record, field=name) from error
    if values["cell"].shape == (1, 3, 3):
        values["cell"] = values["cell"][0]
    try:
        structure = Structure(**values, pbc=(True, True, True), properties=_ids(fields))
        check_tags(structure)
        _check_natoms(structure, fields)
    except ValueError as error:
        target, _, complaint = str(error).partition(": ")
        name = names.get(target, target)
        raise DataError(file, complaint, record=record, field=name) from error
    return structure


def _names_in(
    fields: Mapping[str, Any], labels: Names, file: pathlib.Path, record: int
) -> dict[str, str]:
    """Field of a `Structure` -> its name in this record, for those that it has."""
    names = {}
    for target, choices in {**_GEOMETRY, **labels}.items():
        present = [choice for choice in choices if choice in fields]
        if present:
            names[target] = present[0]
        elif target in _GEOMETRY:
            raise DataError(file, "missing from the record", record=record, field=choices[0])
    return names


def _array(value: Any) -> np.ndarray:
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "biuf":
        kind = value.dtype if isinstance(value, np.ndarray) else type(value).__name__
        raise ValueError(f"expected an array of numbers, got {kind}")
    return value


def _number(value: Any) -> float:
    number = _only_item(value)
    if type(number) not in (int, float) or abs(number) >= _TOO_LARGE:  # `Structure` refuses nan
        kind = "a huge number" if type(number) in (int, float) else type(number).__name__
        raise ValueError(f"expected a number, got {kind}")
    return float(number)


def _only_item(value: Any) -> Any:
    """What an array of one element holds; anything else as it is."""
    is_one = isinstance(value, (np.ndarray, np.generic)) and value.size == 1
    return value.item() if is_one else value


def _ids(fields: Mapping[str, Any]) -> dict[str, int | str]:
    """The numbers (in OC20) or names (in its descendants) of system and frame."""
    ids = {name: _only_item(fields[name]) for name in _IDS if name in fields}
    for name, value in ids.items():
        if type(value) is not str and not (type(value) is int and abs(value) < _TOO_LARGE):
            raise ValueError(f"{name}: expected a number or a name, got {type(value).__name__}")
    return ids


def _check_natoms(structure: Structure, fields: Mapping[str, Any]) -> None:
    if "natoms" in fields and _only_item(fields["natoms"]) != structure.num_atoms:
        raise ValueError(f"natoms: it differs from the {structure.num_atoms} positions")

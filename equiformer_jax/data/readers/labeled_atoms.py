"""From ASE's `Atoms`, wherever they were read, to a `Structure` with the labels asked for."""

from __future__ import annotations

import dataclasses
import os
import pathlib
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import ase
import numpy as np
from ase.stress import voigt_6_to_full_3x3_stress

from equiformer_jax.data.errors import DataError
from equiformer_jax.data.readers.label_keys import LabelKeys
from equiformer_jax.data.structures import StructureSequence
from equiformer_jax.structure import Structure, structure_from_ase

# What `structure_from_ase` would take as labels by itself; here only `LabelKeys` decides.
_STANDARD_NAMES = ("energy", "forces", "stress", "tags", "relaxed_positions", "relaxed_energy")


class AtomsConverter:
    """Turns the `Atoms` of one file into structures that all have the same labels.

    Attributes:
      file: where they come from, for messages.
      keys: which labels to take, and their units.
      present: the names of those that the file has.
    """

    def __init__(
        self, file: str | os.PathLike[str], keys: LabelKeys, first: ase.Atoms, record: str
    ) -> None:
        """Looks at one structure to see which labels there are.

        Args:
          file: where the structures come from.
          keys: see `LabelKeys`.
          first: one of them, which is not changed.
          record: what to call it in a message.

        Raises:
          DataError: a required label is missing; names those that are there.
        """
        self.file, self.keys = os.fspath(file), keys
        found = labels_of(first)
        missing = [key for key in keys.required if key not in found]
        if missing:
            raise self._error(record, f"not there; there are {sorted(found)}", missing[0])
        self.present = frozenset(key for key in keys.all_keys if key in found)
        self._first = record

    def check(self, atoms: ase.Atoms, record: str) -> None:
        """Refuses a structure that has other labels than the first one.

        Raises:
          DataError: names the label, and both structures.
        """
        self._check_names(labels_of(atoms), record)

    def convert(self, atoms: ase.Atoms, record: str) -> Structure:
        """Makes a structure: Å, eV, eV/Å, eV/Å³.

        Args:
          atoms: what ASE has read; loses its labels.
          record: what to call it in a message.

        Returns:
          The structure; `properties` holds what `atoms.info` has besides labels, and the arrays
          that `keys.per_atom` names.

        Raises:
          DataError: it has other labels than the first one, or one of them, or an element, a
            position or the lattice, is impossible.
        """
        found = labels_of(atoms)
        self._check_names(found, record)
        used = {*self.present, *_STANDARD_NAMES}
        carried = {key: value for key, value in atoms.info.items() if key not in used}
        atoms.calc = None
        for name in _STANDARD_NAMES:
            atoms.arrays.pop(name, None)
        atoms.info = carried
        names = self.keys.names
        try:
            for key in self.keys.per_atom:
                carried[key] = _per_atom(key, found[key], len(atoms))
            values = {
                field: _converted(field, found[key], self.keys, atoms)
                for field, key in names.items()
                if key in self.present
            }
            return dataclasses.replace(structure_from_ase(atoms), **values)
        except ValueError as error:  # begins with the field that is wrong
            field, _, message = str(error).partition(": ")
            raise self._error(record, message, names.get(field, field)) from error

    def _check_names(self, found: Mapping[str, Any], record: str) -> None:
        for key in self.keys.all_keys:
            if key in found and key not in self.present:
                raise self._error(self._first, _mixed(f"missing here, but {record} has it"), key)
            if key not in found and key in self.present:
                raise self._error(record, _mixed(f"missing here, but {self._first} has it"), key)

    def _error(self, record: str, message: str, field: str) -> DataError:
        return DataError(self.file, message, record=record, field=field)


class AtomsSequence(StructureSequence):
    """Structures of one file that ASE reads one by one.

    A subclass reads: it gives `_atoms` and `_record`, and calls `_open` once these can be called.

    Attributes:
      path: the file.
    """

    path: pathlib.Path

    def _open(self, keys: LabelKeys, fingerprint: str) -> None:
        """Looks at the first structure to see which labels there are."""
        self._fingerprint = fingerprint
        self._converter = AtomsConverter(self.path, keys, self._atoms(0), self._record(0))

    @abstractmethod
    def _atoms(self, index: int) -> ase.Atoms:
        """What ASE reads of structure `index`."""

    @abstractmethod
    def _record(self, index: int) -> str:
        """What to call it within the file."""

    def structure(self, index: int) -> Structure:
        """Structure `index`.

        Raises:
          DataError: it is malformed or damaged, or a label is missing or impossible.
        """
        return self._converter.convert(self._atoms(index), self._record(index))

    def name_of(self, index: int) -> str:
        """The file and the record."""
        return f"{self.path}: {self._record(index)}"

    @property
    def fingerprint(self) -> str:
        """That of the file, of the labels and of the choice of structures."""
        return self._fingerprint


def labels_of(atoms: ase.Atoms) -> dict[str, Any]:
    """Everything that is known of the atoms besides where and what they are, by ASE's names."""
    arrays = {
        name: array for name, array in atoms.arrays.items() if name not in ("numbers", "positions")
    }
    results = getattr(atoms.calc, "results", {})
    everything = {**atoms.info, **arrays, **results}
    return {name: value for name, value in everything.items() if value is not None}


def describe_failure(error: Exception) -> str:
    """What an exception from inside of ASE's readers means to somebody who has only the file."""
    if isinstance(error, KeyError):
        return f"unknown element or key {error}"
    return f"{type(error).__name__}: {error}"


def _mixed(what: str) -> str:
    return f"{what}; expected in all or in none; leave its name out of the keys to do without"


def _converted(field: str, value: Any, keys: LabelKeys, atoms: ase.Atoms) -> Any:
    """A label in the package's units; its shape is left to `Structure`, except the stress's."""
    if field in ("energy", "relaxed_energy"):
        return _numbers(field, value) * keys.energy_factor
    if field == "forces":
        return _numbers(field, value) * keys.force_factor
    if field == "stress":
        volume = abs(np.linalg.det(np.asarray(atoms.cell)))
        if keys.stress_kind == "virial" and not volume > 0:
            raise ValueError("stress: a virial needs a lattice with a volume")
        return _full_stress(_numbers(field, value)) * keys.stress_factor(volume)
    return value


def _numbers(field: str, value: Any) -> np.ndarray:
    array = np.asarray(value)
    if array.dtype.kind not in "iuf":  # such as text, or true for a key without a value
        raise ValueError(f"{field}: expected numbers, got {str(value)[:60]!r}")
    return array.astype(np.float64)


def _full_stress(stress: np.ndarray) -> np.ndarray:
    if stress.shape == (6,):
        return voigt_6_to_full_3x3_stress(stress)
    if stress.size != 9:
        raise ValueError(f"stress: expected 3x3, 9 or 6 numbers, got {list(stress.shape)}")
    return stress.reshape(3, 3)


def _per_atom(key: str, value: Any, num_atoms: int) -> np.ndarray:
    array = np.array(value)
    if array.shape[:1] != (num_atoms,):
        raise ValueError(f"{key}: expected one row for each of {num_atoms} atoms")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise ValueError(f"{key}: not finite")
    array.flags.writeable = False
    return array

"""The molecules of QM9 in flat arrays, which every format of QM9 is read into."""

from __future__ import annotations

import array
import functools
import os
from collections.abc import Sequence

import numpy as np

from equiformer_jax.data.errors import DataError
from equiformer_jax.data.readers.qm9_targets import (
    ELEMENTS,
    PUBLISHED_COLUMNS,
    TARGETS,
    convert_published,
    find_target,
)
from equiformer_jax.data.structures import StructureSequence, digest
from equiformer_jax.structure import Structure


class QM9Molecules(StructureSequence):
    """Molecules of QM9 in ascending order of their ids; a `Structure` is made when asked for.

    A structure has positions in Å and, in `properties`, all nineteen targets by name in the units
    of `TARGETS` (targets 7 to 10 minus their atoms' reference energies) and the molecule's public,
    1-based number as `id`. Its `energy` is the chosen target, **in the target's own unit**: the one
    number per molecule that a network learns, an energy in eV or not; None if none was chosen.

    Attributes:
      ids: int64 `[M]`, ascending, read-only.
      targets: float64 `[M, 19]`, in the order and units of `TARGETS`, read-only.
      target: the chosen one, or None.
    """

    def __init__(
        self,
        file: str | os.PathLike[str],
        ids: np.ndarray,
        counts: np.ndarray,
        atomic_numbers: np.ndarray,
        positions: np.ndarray,
        published: np.ndarray,
        target: str | int | None = None,
    ) -> None:
        """Checks the arrays, converts the labels and puts the molecules in order.

        Args:
          file: where they come from, for messages.
          ids: `[M]` integers of the public numbering, distinct.
          counts: `[M]` atoms of each molecule, at least one.
          atomic_numbers: `[A]` of all atoms, one molecule after another.
          positions: `[A, 3]`, Å.
          published: `[M, 19]` or `[M, 15]`, see `convert_published`.
          target: name or number of the target to be `Structure.energy`.

        Raises:
          DataError: there is no molecule, an id is there twice, or a number is not finite.
          ValueError: the target is unknown.
        """
        self.target = None if target is None else find_target(target)
        self._file = os.fspath(file)
        _check(self._file, ids, counts, positions, published)
        order = np.argsort(ids, kind="stable")
        values = convert_published(published, atomic_numbers, counts)
        self.ids = _frozen(ids[order].astype(np.int64))
        self.targets = _frozen(values[order])
        self._starts = (np.cumsum(counts) - counts)[order]
        self._counts = counts[order]
        self._numbers = atomic_numbers.astype(np.uint8)
        self._positions = positions.astype(np.float64)

    def __len__(self) -> int:
        return len(self.ids)

    def structure(self, index: int) -> Structure:
        """Molecule `index` in the order of the ids, not molecule gdb_`index`."""
        start = self._starts[index]
        atoms = slice(start, start + self._counts[index])
        values = self.targets[index].tolist()
        names = [target.name for target in TARGETS]
        return Structure(
            positions=self._positions[atoms],
            atomic_numbers=self._numbers[atoms],
            energy=None if self.target is None else values[self.target.number],
            properties={"id": int(self.ids[index]), **dict(zip(names, values, strict=True))},
        )

    def name_of(self, index: int) -> str:
        """The file and the molecule's public name, such as `gdb9.sdf: gdb_17`."""
        return f"{self._file}: gdb_{self.ids[index]}"

    @functools.cached_property
    def fingerprint(self) -> str:
        """A digest of the molecules, of their labels and of the chosen target."""
        arrays = (self.ids, self._starts, self._counts, self._numbers, self._positions)
        parts = [part.tobytes() for part in (*arrays, self.targets)]
        return digest("QM9", repr(self.target), *parts)


class MoleculeCollector:
    """Gathers the geometries of one molecule after another, without an object for each."""

    def __init__(self) -> None:
        self._ids, self._counts = array.array("q"), array.array("q")
        self._numbers, self._positions = bytearray(), array.array("d")

    def __len__(self) -> int:
        return len(self._ids)

    def add(self, identifier: int, numbers: Sequence[int], coordinates: Sequence[float]) -> None:
        """Adds a molecule of n atoms.

        Args:
          identifier: its public number.
          numbers: n atomic numbers.
          coordinates: 3 n of them, Å, one atom after another.
        """
        self._ids.append(identifier)
        self._counts.append(len(numbers))
        self._numbers.extend(numbers)
        self._positions.extend(coordinates)

    def finish(
        self, file: str | os.PathLike[str], published: np.ndarray, target: str | int | None
    ) -> QM9Molecules:
        """The collected molecules with their labels; arguments and errors as `QM9Molecules`."""
        return QM9Molecules(
            file,
            np.array(self._ids, np.int64),
            np.array(self._counts, np.int64),
            np.frombuffer(bytes(self._numbers), np.uint8),
            np.array(self._positions, np.float64).reshape(-1, 3),
            published,
            target,
        )


def atom_error(
    file: str | os.PathLike[str],
    record: str,
    atom: int,
    element: str,
    coordinates: Sequence[str],
) -> DataError:
    """What to raise for an atom whose element or coordinates could not be read.

    Args:
      file: where it is.
      record: which molecule.
      atom: which atom of the molecule, from 0.
      element: the text of its symbol.
      coordinates: the texts of x, y and z.
    """
    if element not in ELEMENTS:
        message = f"atom {atom}: expected one of {', '.join(ELEMENTS)}, got '{element}'"
        return DataError(file, message, record=record, field="element")
    return number_error(file, record, "xyz", coordinates, f"atom {atom}: ")


def number_error(
    file: str | os.PathLike[str],
    record: str,
    names: Sequence[str],
    texts: Sequence[str],
    place: str = "",
) -> DataError:
    """What to raise for numbers that could not all be read.

    Args:
      file: where they are.
      record: which molecule.
      names: what each number is called.
      texts: the numbers as written, at least one of which is none.
      place: what to say before what was expected.
    """
    wrong = next(index for index, text in enumerate(texts) if not _is_number(text))
    message = f"{place}expected a number, got '{texts[wrong].strip()[:40]}'"
    return DataError(file, message, record=record, field=names[wrong])


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _frozen(values: np.ndarray) -> np.ndarray:
    values.flags.writeable = False
    return values


def _check(
    file: str, ids: np.ndarray, counts: np.ndarray, positions: np.ndarray, published: np.ndarray
) -> None:
    if len(ids) == 0:
        raise DataError(file, "holds no molecules; expected at least one")
    distinct, times = np.unique(ids, return_counts=True)
    if len(distinct) < len(ids):
        record = f"gdb_{distinct[np.argmax(times)]}"
        raise DataError(file, f"is there {times.max()} times; expected once", record=record)
    rows, columns = np.nonzero(~np.isfinite(published))
    if len(rows):
        value, column = published[rows[0], columns[0]], PUBLISHED_COLUMNS[columns[0]]
        raise DataError(file, f"not finite: {value}", record=f"gdb_{ids[rows[0]]}", field=column)
    atoms = np.flatnonzero(~np.isfinite(positions).all(axis=1))
    if len(atoms):
        molecule = int(np.searchsorted(np.cumsum(counts), atoms[0], side="right"))
        atom = atoms[0] - (np.cumsum(counts) - counts)[molecule]
        message = f"atom {atom}: not finite: {positions[atoms[0]].tolist()}"
        raise DataError(file, message, record=f"gdb_{ids[molecule]}", field="positions")

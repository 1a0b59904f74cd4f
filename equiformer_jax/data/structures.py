"""Sequences of structures: what a reader gives, in memory or read when asked for.

A data set may hold half a million systems. A reader therefore checks a file once and hands out a
sequence that makes a `Structure` when it is indexed; splits are selections from it, without copies.
Sequences can be pickled, so that other processes can read from them.
"""

from __future__ import annotations

import hashlib
import operator
import os
import pathlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np

from equiformer_jax.structure import Structure


class StructureSequence(Sequence[Structure], ABC):
    """Structures by index; a slice or an array of indices selects without reading."""

    @abstractmethod
    def __len__(self) -> int:
        """How many structures there are."""

    @abstractmethod
    def structure(self, index: int) -> Structure:
        """Structure `index`, from 0 to `len - 1`.

        Raises:
          DataError: the record cannot be read.
        """

    @abstractmethod
    def name_of(self, index: int) -> str:
        """What to call structure `index` in a message: its file and record."""

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """A text that changes whenever one of the structures may have changed."""

    def __getitem__(self, index: Any) -> Any:
        """A `Structure` for an integer, a `Selection` for a slice or an array of integers.

        Raises:
          IndexError: there is no such structure.
          TypeError: an index is no integer, such as one of a mask of booleans.
        """
        if isinstance(index, slice):
            return Selection(self, np.arange(len(self))[index])
        if isinstance(index, np.ndarray | list):
            return Selection(self, np.asarray(index))
        position = operator.index(index)
        if position < 0:
            position += len(self)
        if not 0 <= position < len(self):
            raise IndexError(f"structure {index} of {len(self)}")
        return self.structure(position)


class Selection(StructureSequence):
    """Some of the structures of another sequence, in a given order.

    Attributes:
      indices: int64 `[n]`, read-only, into the other sequence.
    """

    def __init__(self, source: StructureSequence, indices: np.ndarray) -> None:
        """Selects.

        Args:
          source: where the structures are; a selection of a selection refers to the first source.
          indices: `[n]` integers from 0 to `len(source) - 1`.

        Raises:
          IndexError: one lies outside.
          TypeError: they are no integers, but a mask of booleans, say.
        """
        indices = np.asarray(indices)
        if indices.size and indices.dtype.kind not in "iu":
            raise TypeError(f"indices: expected integers, got an array of {indices.dtype}")
        indices = np.array(indices, np.int64).reshape(-1)
        outside = indices[(indices < 0) | (indices >= len(source))]
        if len(outside):
            raise IndexError(f"structure {outside[0]} of {len(source)}")
        self._source: StructureSequence = source
        self.indices: np.ndarray = indices
        if isinstance(source, Selection):
            self._source, self.indices = source._source, source.indices[indices]
        self.indices.flags.writeable = False

    def __len__(self) -> int:
        return len(self.indices)

    def structure(self, index: int) -> Structure:
        """Structure `index` of the selection."""
        return self._source.structure(int(self.indices[index]))

    def name_of(self, index: int) -> str:
        """The name that the source gives it."""
        return self._source.name_of(int(self.indices[index]))

    @property
    def fingerprint(self) -> str:
        """That of the source and of the indices."""
        return digest(self._source.fingerprint, self.indices.tobytes())


class StructureList(StructureSequence):
    """Structures that are in memory.

    Attributes:
      title: what the structures are called together, such as their file.
    """

    def __init__(self, structures: Sequence[Structure], title: str, fingerprint: str = "") -> None:
        """Takes the structures as they are.

        Args:
          structures: in their order.
          title: for messages.
          fingerprint: if not given, one is made from the contents when it is asked for.
        """
        self._structures, self.title, self._fingerprint = list(structures), title, fingerprint

    def __len__(self) -> int:
        return len(self._structures)

    def structure(self, index: int) -> Structure:
        """Structure `index`."""
        return self._structures[index]

    def name_of(self, index: int) -> str:
        """`title: structure index`."""
        return f"{self.title}: structure {index}"

    @property
    def fingerprint(self) -> str:
        """A digest of positions, elements, lattices and labels, unless another one was given."""
        if not self._fingerprint:
            parts = [part for s in self._structures for part in _contents(s)]
            self._fingerprint = digest(self.title, *parts)
        return self._fingerprint


def as_sequence(structures: Sequence[Structure], title: str) -> StructureSequence:
    """The structures as a `StructureSequence`, themselves if they are one already."""
    if isinstance(structures, StructureSequence):
        return structures
    return StructureList(structures, title)


def digest(*parts: str | bytes) -> str:
    """Sixteen hexadecimal digits that depend on every part and on where one ends."""
    total = hashlib.sha256()
    for part in parts:
        content = part.encode() if isinstance(part, str) else part
        total.update(len(content).to_bytes(8, "little"))
        total.update(content)
    return total.hexdigest()[:16]


def file_fingerprint(path: str | os.PathLike[str], *options: object) -> str:
    """A digest of a file's name, size and time of change, and of how it is read.

    The contents are not read: a set may have a hundred gigabytes.

    Args:
      path: an existing file.
      options: whatever else decides what a reader makes of it.
    """
    status = pathlib.Path(path).stat()
    return digest(
        os.path.abspath(path), f"{status.st_size} {status.st_mtime_ns}", *map(repr, options)
    )


def _contents(structure: Structure) -> list[bytes]:
    arrays = [structure.positions, structure.atomic_numbers, structure.cell]
    arrays += [structure.forces, structure.stress, structure.tags, structure.fixed]
    arrays += [structure.relaxed_positions]
    numbers = repr((structure.pbc, structure.energy, structure.relaxed_energy)).encode()
    return [b"" if array is None else array.tobytes() for array in arrays] + [numbers]

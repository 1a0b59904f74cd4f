"""Extended XYZ files of any length: their frames are found in one pass and read when asked for."""

from __future__ import annotations

import io
import itertools
import os
import pathlib
import re

import ase
import numpy as np
from ase.io.extxyz import PROPERTY_NAME_MAP, read_xyz

from equiformer_jax.data.errors import DataError
from equiformer_jax.data.readers.file_format import HEAD_SIZE, describe_format
from equiformer_jax.data.readers.frame_index import select_frames
from equiformer_jax.data.readers.label_keys import LabelKeys
from equiformer_jax.data.readers.labeled_atoms import AtomsSequence, describe_failure
from equiformer_jax.data.structures import file_fingerprint

_MOST_DIGITS = 9  # of a number of atoms


class ExtxyzFrames(AtomsSequence):
    """The frames of an extxyz file, parsed by ASE one by one.

    Attributes:
      path: the file.
      frames: int64 `[n]`, the numbers of the frames in the file.
    """

    def __init__(
        self, path: str | os.PathLike[str], keys: LabelKeys, index: str | int | slice = ":"
    ) -> None:
        """Finds the frames, and checks that all have the labels, and that the last one is whole.

        Args:
          path: the file, not compressed.
          keys: see `LabelKeys`.
          index: see `select_frames`.

        Raises:
          FileNotFoundError: the file is not there.
          ValueError: see `select_frames`.
          DataError: it is not such a file, is truncated, or a label is missing from a frame.
        """
        self.path = pathlib.Path(path)
        self._bounds, mentioned = _find_frames(self.path, keys)
        self.frames = select_frames(index, len(self._bounds))
        self.frames.flags.writeable = False
        self._open(keys, file_fingerprint(self.path, keys, index))
        self._check_labels(mentioned[self.frames])
        self.structure(len(self) - 1)

    def __len__(self) -> int:
        return len(self.frames)

    def _record(self, index: int) -> str:
        return f"frame {self.frames[index]}"

    def _atoms(self, index: int) -> ase.Atoms:
        begin, end = self._bounds[self.frames[index]].tolist()
        with open(self.path, "rb") as file:
            file.seek(begin)
            text = file.read(end - begin).decode("utf-8", "replace")
        try:
            return next(read_xyz(io.StringIO(text), 0))
        except Exception as error:  # ASE raises whatever malformed text leads it to
            message = f"not a frame of an extxyz file: {describe_failure(error)}"
            raise DataError(self.path, message, record=self._record(index)) from error

    def _check_labels(self, mentioned: np.ndarray) -> None:
        """Parses those frames whose comment lines seem to name other labels than the first one.

        Args:
          mentioned: bool `[n, keys]`.
        """
        keys = self._converter.keys.all_keys
        expected = [key in self._converter.present for key in keys]
        for index in np.flatnonzero((mentioned != expected).any(axis=1)).tolist():
            self._converter.check(self._atoms(index), self._record(index))


def _find_frames(path: pathlib.Path, keys: LabelKeys) -> tuple[np.ndarray, np.ndarray]:
    """Where frames begin and end, int64 `[M, 2]`; what their comment lines name, bool `[M, keys]`.

    Nothing is parsed here: a gigabyte takes a few seconds.
    """
    patterns = [_mention(key) for key in keys.all_keys]
    bounds: list[tuple[int, int]] = []
    mentioned: list[list[bool]] = []
    position = 0
    with open(path, "rb") as file:
        while count := file.readline():
            begin, position = position, position + len(count)
            if not count.strip():
                continue  # an empty line between frames, or at the end
            num_atoms = _number_of_atoms(path, len(bounds), count)
            lines = list(itertools.islice(file, num_atoms + 1))
            if len(lines) <= num_atoms:
                message = f"truncated: it ends after {max(len(lines) - 1, 0)} of {num_atoms} atoms"
                raise DataError(path, message, record=f"frame {len(bounds)}")
            position += sum(map(len, lines))
            bounds.append((begin, position))
            mentioned.append([pattern.search(lines[0]) is not None for pattern in patterns])
    if not bounds:
        raise DataError(path, "no frames: the file is empty")
    return np.array(bounds, np.int64), np.array(mentioned, bool)


def _mention(key: str) -> re.Pattern[bytes]:
    """Matches a comment line that gives the label a value, or names a column like it."""
    value = rb"(?:^|[\s\"'])%s[\"']?\s*=" % re.escape(key.encode())
    column = re.escape(PROPERTY_NAME_MAP.get(key, key).encode())
    return re.compile(value + rb"|[=:\"'{]%s:[RISL]:" % column)


def _number_of_atoms(path: pathlib.Path, frame: int, line: bytes) -> int:
    text = line.strip()
    if text.isdigit() and len(text) <= _MOST_DIGITS:
        return int(text)
    found = text[:60].decode("utf-8", "replace")
    if frame:
        hint = f"; does frame {frame - 1} have as many atoms as it says?"
    else:
        with open(path, "rb") as file:
            hint = f" (this is {describe_format(file.read(HEAD_SIZE))})"
    message = f"expected the number of atoms, got {found!r}{hint}"
    raise DataError(path, message, record=f"frame {frame}")

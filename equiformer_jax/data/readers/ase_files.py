"""The user's own data: extended XYZ files, ASE databases, and whatever else ASE reads."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Sequence

import ase.io
import numpy as np
from ase.io.formats import filetype

from equiformer_jax.data.errors import DataError
from equiformer_jax.data.readers.ase_database import DATABASE_ENDINGS, read_ase_database
from equiformer_jax.data.readers.extxyz import ExtxyzFrames
from equiformer_jax.data.readers.frame_index import select_frames
from equiformer_jax.data.readers.label_keys import LabelKeys
from equiformer_jax.data.readers.labeled_atoms import AtomsConverter, describe_failure
from equiformer_jax.data.structures import StructureList, StructureSequence, file_fingerprint
from equiformer_jax.structure import Structure

_PACKED = (".gz", ".bz2", ".xz")


def read_ase(
    path: str | os.PathLike[str],
    keys: LabelKeys | None = None,
    index: str | int | slice = ":",
    format: str | None = None,
) -> StructureSequence:
    """Reads a file of any format that ASE knows: extxyz, POSCAR, OUTCAR, traj, cif, db, ...

    Frames of an extxyz file and rows of a database are read when they are asked for, all other
    files at once.

    Args:
      path: the file.
      keys: what the labels are called and in which units they are; by default ASE's own names and
        units, each label optional.
      index: which frames, as in ASE: "-1", "10:", "::5".
      format: ASE's name of the format, if the file's name does not tell it.

    Returns:
      The structures in their order: Å, eV, eV/Å, eV/Å³. Their `properties` hold what else ASE finds
      in the file for a structure as a whole, and the arrays that `keys.per_atom` names.

    Raises:
      FileNotFoundError: the file is not there.
      ValueError: the index is malformed or selects nothing.
      DataError: the file is not of that format, is truncated, lacks a label that was asked for, has
        one in some structures but not in all, or has an impossible one.
    """
    path, keys = pathlib.Path(path), keys or LabelKeys()
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    if format is None and path.suffix in DATABASE_ENDINGS:
        rows = read_ase_database(path, keys)
        return rows[select_frames(index, len(rows))]
    try:
        format = format or filetype(os.fspath(path))
    except Exception as error:  # also what happens while ASE looks into the file
        message = f"ASE does not know this format: {describe_failure(error)}"
        raise DataError(path, message) from error
    if format == "extxyz" and path.suffix not in _PACKED:
        return ExtxyzFrames(path, keys, index)
    return _read_at_once(path, keys, index, format)


class _Frames(StructureList):
    """Structures in memory that are called by their numbers in the file."""

    def __init__(
        self, structures: Sequence[Structure], title: str, fingerprint: str, frames: np.ndarray
    ) -> None:
        super().__init__(structures, title, fingerprint)
        self._frames = frames

    def name_of(self, index: int) -> str:
        return f"{self.title}: frame {self._frames[index]}"


def _read_at_once(
    path: pathlib.Path, keys: LabelKeys, index: str | int | slice, format: str
) -> StructureList:
    try:
        images = ase.io.read(
            os.fspath(path), index=":", format=format, do_not_split_by_at_sign=True
        )
    except Exception as error:  # ASE's readers raise whatever malformed files lead them to
        message = f"ASE cannot read it as '{format}': {describe_failure(error)}"
        raise DataError(path, message) from error
    if not images:
        raise DataError(path, f"no structures in this '{format}' file")
    frames = select_frames(index, len(images))
    records = [f"frame {frame}" for frame in frames]
    converter = AtomsConverter(path, keys, images[frames[0]], records[0])
    for frame, record in zip(frames, records, strict=True):
        converter.check(images[frame], record)
    structures = [
        converter.convert(images[frame], record)
        for frame, record in zip(frames, records, strict=True)
    ]
    fingerprint = file_fingerprint(path, keys, index, format)
    return _Frames(structures, os.fspath(path), fingerprint, frames)

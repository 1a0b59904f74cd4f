"""Reads QM9 from whichever of its public files there is, without its uncharacterized molecules."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Callable

import numpy as np

from equiformer_jax.data.errors import DataError
from equiformer_jax.data.readers.qm9_molecules import QM9Molecules
from equiformer_jax.data.readers.qm9_sdf import SDF_NAME, read_qm9_sdf, read_qm9_zip
from equiformer_jax.data.readers.qm9_targets import find_target
from equiformer_jax.data.readers.qm9_xyz import read_qm9_tar, read_qm9_xyz_folder
from equiformer_jax.data.structures import StructureSequence

ZIP_NAME = "qm9.zip"
TAR_NAME = "dsgdb9nsd.xyz.tar.bz2"
UNCHARACTERIZED_NAME = "uncharacterized.txt"


def read_qm9(
    path: str | os.PathLike[str],
    uncharacterized: str | os.PathLike[str] | None = None,
    target: str | int | None = None,
) -> StructureSequence:
    """Reads the characterized molecules of QM9, of which the full set has 130,831.

    Args:
      path: an `.sdf` file with its table `.sdf.csv` beside it, a `.zip` with both, a `.tar.bz2` of
        raw xyz files, or a folder. Of a folder the first of these is taken: `gdb9.sdf`, `qm9.zip`,
        `dsgdb9nsd.xyz.tar.bz2`, all its `.xyz` files.
      uncharacterized: the public list of molecules to leave out; if not given,
        `uncharacterized.txt` in the folder or beside the file. Where there is none either, every
        molecule is kept.
      target: name or number of the target to be `Structure.energy`, in the unit of `TARGETS`.

    Returns:
      The molecules in ascending order of their ids, as `QM9Molecules` describes them.

    Raises:
      FileNotFoundError: a file is not there.
      DataError: a file is damaged, or no molecule is left.
      ValueError: the target is unknown, or the kind of the file.
    """
    path = pathlib.Path(path)
    read = _find_reader(path)
    # What is quick to check comes first: the archive takes twenty seconds.
    if target is not None:
        find_target(target)
    if uncharacterized is None:
        beside = (path if path.is_dir() else path.parent) / UNCHARACTERIZED_NAME
        uncharacterized = beside if beside.exists() else None
    if uncharacterized is None:
        return read(target)
    left_out = read_uncharacterized(uncharacterized)
    molecules = read(target)
    kept = np.flatnonzero(~np.isin(molecules.ids, left_out))
    if len(kept) == 0:
        raise DataError(path, f"{uncharacterized} lists all of its molecules; expected some left")
    return molecules[kept]


def read_uncharacterized(path: str | os.PathLike[str]) -> np.ndarray:
    """Reads which molecules do not keep their bonds when relaxed.

    Args:
      path: the public `uncharacterized.txt`: an introduction, the names of the columns between two
        rulers of `=`, rows that start with a 1-based id, and a third ruler.

    Returns:
      int64 `[n]`, the ids in the order of the file; the public list has 3,054.

    Raises:
      FileNotFoundError: the file is not there.
      DataError: a ruler is missing, as it is from a truncated file, or a row has no id.
    """
    path = pathlib.Path(path)
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    rulers = [number for number, line in enumerate(lines) if line.startswith("====")]
    if len(rulers) != 3:
        message = (
            f"expected rows between the second and third of three '=' rulers, got {len(rulers)}"
        )
        raise DataError(path, message)
    ids = []
    for number in range(rulers[1] + 1, rulers[2]):
        first = lines[number].split(maxsplit=1)[:1]
        if not first or not (first[0].isascii() and first[0].isdigit()):
            message = f"expected a row that starts with an id, got '{lines[number][:40]}'"
            raise DataError(path, message, record=f"line {number + 1}")
        ids.append(int(first[0]))
    return np.array(ids, np.int64)


def _find_reader(path: pathlib.Path) -> Callable[[str | int | None], QM9Molecules]:
    """What reads the path, given a target."""
    if path.is_dir():
        for name in (SDF_NAME, ZIP_NAME, TAR_NAME):
            if (path / name).exists():
                return _find_reader(path / name)
        if any(path.glob("*.xyz")):
            return lambda target: read_qm9_xyz_folder(path, target)
        expected = f"{SDF_NAME}, {ZIP_NAME}, {TAR_NAME} or .xyz files"
        raise DataError(path, f"expected {expected} in the folder, found none")
    if path.name.endswith(".sdf"):
        return lambda target: read_qm9_sdf(path, target=target)
    if path.name.endswith(".zip"):
        return lambda target: read_qm9_zip(path, target)
    if path.name.endswith(".tar.bz2"):
        return lambda target: read_qm9_tar(path, target)
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file or folder")
    raise ValueError(f"path: expected a folder, .sdf, .zip or .tar.bz2, got {path}")

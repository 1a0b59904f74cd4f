"""Reads QM9 from its raw files: `dsgdb9nsd.xyz.tar.bz2`, or the xyz files unpacked.

Each molecule is a file: the number of atoms; `gdb`, the id and fifteen labels; an element, three
coordinates (Å) and a Mulliken charge per atom; vibrational frequencies; SMILES; InChI. Numbers may
have the exponent `*^`. Charges, frequencies, SMILES and InChI are not read.
"""

from __future__ import annotations

import array
import bz2
import os
import pathlib
import tarfile
from collections.abc import Iterable, Iterator

import numpy as np

from equiformer_jax.data.errors import DataError
from equiformer_jax.data.readers.file_format import HEAD_SIZE, describe_format
from equiformer_jax.data.readers.qm9_molecules import (
    MoleculeCollector,
    QM9Molecules,
    atom_error,
    number_error,
)
from equiformer_jax.data.readers.qm9_targets import ELEMENTS, PUBLISHED_COLUMNS
from equiformer_jax.structure import Structure

# The raw files have the labels up to the heat capacity; the energies of atomization follow from
# them (see `convert_published`).
RAW_COLUMNS = PUBLISHED_COLUMNS[:15]

# Besides the atoms: their number, the labels, the frequencies, SMILES and InChI.
_OTHER_LINES = 5


def parse_qm9_xyz(
    text: str, file: str | os.PathLike[str], target: str | int | None = None
) -> Structure:
    """Reads one molecule.

    Args:
      text: the contents of one raw file.
      file: its name, for messages.
      target: name or number of the target to be `Structure.energy`.

    Returns:
      The structure, with the labels converted (see `QM9Molecules`).

    Raises:
      DataError: the text is damaged; names the field.
      ValueError: the target is unknown.
    """
    return _collect([("molecule", text)], file, target).structure(0)


def read_qm9_tar(path: str | os.PathLike[str], target: str | int | None = None) -> QM9Molecules:
    """Reads the public archive of raw files in one pass, without unpacking it.

    Args:
      path: `dsgdb9nsd.xyz.tar.bz2`; each member whose name ends in `.xyz` is a molecule.
      target: name or number of the target to be `Structure.energy`.

    Returns:
      All molecules of the archive, in ascending order of their ids.

    Raises:
      FileNotFoundError: the archive is not there.
      DataError: a member is damaged, or the archive is truncated or none.
      ValueError: the target is unknown.
    """
    path = pathlib.Path(path)
    with path.open("rb") as raw:
        try:
            with bz2.open(raw) as content, tarfile.open(fileobj=content, mode="r:") as archive:
                molecules = _collect(_members(archive), path, target)
                # The last checksum stands behind what the archive needs.
                content.read()
                return molecules
        except (tarfile.TarError, EOFError, OSError) as error:
            raw.seek(0)
            found = describe_format(raw.read(HEAD_SIZE))
            message = f"expected a tar.bz2 archive, but this is {found}, or cut off ({error})"
            raise DataError(path, message) from error


def read_qm9_xyz_folder(
    path: str | os.PathLike[str], target: str | int | None = None
) -> QM9Molecules:
    """Reads every `.xyz` file of a folder, not of folders inside.

    Args:
      path: a folder with unpacked raw files.
      target: name or number of the target to be `Structure.energy`.

    Returns:
      The molecules, in ascending order of their ids.

    Raises:
      FileNotFoundError: the folder is not there.
      DataError: a file is damaged, or there is none.
      ValueError: the target is unknown.
    """
    path = pathlib.Path(path)
    if not path.is_dir():
        raise FileNotFoundError(f"{path}: no such folder")
    files = (file for file in sorted(path.iterdir()) if file.suffix == ".xyz")
    texts = ((file.name, file.read_text(encoding="utf-8", errors="replace")) for file in files)
    return _collect(texts, path, target)


def _members(archive: tarfile.TarFile) -> Iterator[tuple[str, str]]:
    for member in archive:
        if member.name.endswith(".xyz") and (content := archive.extractfile(member)) is not None:
            yield pathlib.PurePosixPath(member.name).name, content.read().decode(errors="replace")


def _collect(
    texts: Iterable[tuple[str, str]], file: str | os.PathLike[str], target: str | int | None
) -> QM9Molecules:
    """Parses (name, contents) of one molecule after another."""
    molecules, labels = MoleculeCollector(), array.array("d")
    for record, text in texts:
        lines = text.replace("*^", "e").rstrip().split("\n")
        numbers, coordinates = _parse_atoms(lines, file, record)
        identifier, values = _parse_labels(lines[1], file, record)
        molecules.add(identifier, numbers, coordinates)
        labels.extend(values)
    published = np.array(labels, np.float64).reshape(-1, len(RAW_COLUMNS))
    return molecules.finish(file, published, target)


def _parse_atoms(
    lines: list[str], file: str | os.PathLike[str], record: str
) -> tuple[list[int], list[float]]:
    count = lines[0].strip()
    if not (count.isascii() and count.isdigit() and int(count) > 0):
        message = f"expected the number of atoms in the first line, got '{count[:40]}'"
        raise DataError(file, message, record=record, field="number of atoms")
    if len(lines) != int(count) + _OTHER_LINES:
        message = f"expected {int(count) + _OTHER_LINES} lines for it, got {len(lines)}"
        raise DataError(file, message, record=record, field="number of atoms")
    numbers: list[int] = []
    coordinates: list[float] = []
    for atom, line in enumerate(lines[2 : 2 + int(count)]):
        fields = line.split()
        if len(fields) != 5:
            message = f"atom {atom}: expected an element, x, y, z and a charge, got '{line[:60]}'"
            raise DataError(file, message, record=record, field="atoms")
        try:
            coordinates += float(fields[1]), float(fields[2]), float(fields[3])
            numbers.append(ELEMENTS[fields[0]])
        except (KeyError, ValueError) as error:
            raise atom_error(file, record, atom, fields[0], fields[1:4]) from error
    return numbers, coordinates


def _parse_labels(line: str, file: str | os.PathLike[str], record: str) -> tuple[int, list[float]]:
    """The id and the labels, in the order of `RAW_COLUMNS`."""
    fields = line.split()
    if len(fields) != 2 + len(RAW_COLUMNS) or fields[0] != "gdb":
        message = f"expected 'gdb', an id and {len(RAW_COLUMNS)} numbers, got '{line[:60]}'"
        raise DataError(file, message, record=record, field="labels")
    if not (fields[1].isascii() and fields[1].isdigit()):
        message = f"expected a whole number, got '{fields[1]}'"
        raise DataError(file, message, record=record, field="id")
    try:
        return int(fields[1]), list(map(float, fields[2:]))
    except ValueError as error:
        raise number_error(file, record, RAW_COLUMNS, fields[2:]) from error

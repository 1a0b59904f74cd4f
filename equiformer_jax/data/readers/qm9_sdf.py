"""Reads QM9 from `gdb9.sdf` and `gdb9.sdf.csv`, unpacked or inside `qm9.zip`.

The published results were obtained from these files. Their geometries have four decimals (Å), those
of the raw xyz files ten.
"""

from __future__ import annotations

import array
import io
import os
import pathlib
import zipfile
import zlib
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

SDF_NAME = "gdb9.sdf"
CSV_NAME = "gdb9.sdf.csv"

_HEADER = ",".join(("mol_id", *PUBLISHED_COLUMNS))

# Title, program, comment and counts; the atoms follow.
_LINES_BEFORE_ATOMS = 4


def read_qm9_sdf(
    path: str | os.PathLike[str],
    csv_path: str | os.PathLike[str] | None = None,
    target: str | int | None = None,
) -> QM9Molecules:
    """Reads molecules from an SDF file and their labels from the table beside it.

    Args:
      path: records in the V2000 format, titled `gdb_1`, `gdb_2`, …; coordinates in Å.
      csv_path: one row for each record, in the same order; by default `path` with `.csv` added.
      target: name or number of the target to be `Structure.energy`.

    Returns:
      All molecules of the files, with the labels converted (see `QM9Molecules`).

    Raises:
      FileNotFoundError: one of the files is not there.
      DataError: a record or row is damaged, or the files do not belong together.
      ValueError: the target is unknown.
    """
    path = pathlib.Path(path)
    csv_path = pathlib.Path(csv_path or f"{path}.csv")
    with (
        path.open(encoding="utf-8", errors="replace") as sdf,
        csv_path.open(encoding="utf-8", errors="replace") as table,
    ):
        return _read(sdf, str(path), table, str(csv_path), target)


def read_qm9_zip(path: str | os.PathLike[str], target: str | int | None = None) -> QM9Molecules:
    """Reads `gdb9.sdf` and `gdb9.sdf.csv` from the archive that holds both.

    Args:
      path: the public `qm9.zip`.
      target: name or number of the target to be `Structure.energy`.

    Raises:
      FileNotFoundError: the archive is not there.
      DataError: as `read_qm9_sdf`, or the archive is damaged or lacks one of the files.
      ValueError: the target is unknown.
    """
    path = pathlib.Path(path)
    with path.open("rb") as raw:
        try:
            with (
                zipfile.ZipFile(raw) as archive,
                _open_member(archive, path, SDF_NAME) as sdf,
                _open_member(archive, path, CSV_NAME) as table,
            ):
                return _read(sdf, f"{path}/{SDF_NAME}", table, f"{path}/{CSV_NAME}", target)
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
            raw.seek(0)
            found = describe_format(raw.read(HEAD_SIZE))
            message = f"expected a zip archive, but this is {found}, or cut off ({error})"
            raise DataError(path, message) from error


def _open_member(archive: zipfile.ZipFile, path: pathlib.Path, name: str) -> io.TextIOWrapper:
    members = [member for member in archive.namelist() if pathlib.Path(member).name == name]
    if len(members) != 1:
        raise DataError(path, f"expected one file {name} inside, got {len(members)}")
    return io.TextIOWrapper(archive.open(members[0]), encoding="utf-8", errors="replace")


def _read(
    sdf: Iterable[str], sdf_file: str, table: Iterable[str], csv_file: str, target: str | int | None
) -> QM9Molecules:
    names, published = _read_table(table, csv_file)
    molecules = MoleculeCollector()
    for index, lines in enumerate(_records(sdf, sdf_file)):
        title = lines[0].strip()
        identifier = _identifier(title, sdf_file, index)
        if index >= len(names):
            raise DataError(sdf_file, f"has no row: {csv_file} ends before it", record=title)
        if names[index] != title:
            message = f"expected the row of {title}, which is record {index} of {sdf_file}"
            raise DataError(csv_file, message, record=names[index])
        molecules.add(identifier, *_parse_record(lines, sdf_file, title))
    if len(molecules) < len(names):
        message = f"ends after {len(molecules)} molecules; {csv_file} has {len(names)} rows"
        raise DataError(sdf_file, message)
    return molecules.finish(sdf_file, published, target)


def _identifier(title: str, file: str, index: int) -> int:
    number = title.removeprefix("gdb_")
    if number == title or not (number.isascii() and number.isdigit()):
        raise DataError(file, f"expected a title like gdb_17, got '{title[:40]}'", record=index)
    return int(number)


def _records(lines: Iterable[str], file: str) -> Iterator[list[str]]:
    """The lines of each record, without the `$$$$` that ends it."""
    record: list[str] = []
    index = 0
    for line in lines:
        if line.startswith("$$$$"):
            if len(record) < _LINES_BEFORE_ATOMS:
                raise DataError(file, "expected a title and a counts line", record=index)
            yield record
            record, index = [], index + 1
        else:
            record.append(line)
    if any(line.strip() for line in record):
        raise DataError(file, "the file ends before the record's '$$$$'", record=index)


def _parse_record(lines: list[str], file: str, record: str) -> tuple[list[int], list[float]]:
    """Atomic numbers and coordinates, from columns of fixed width."""
    end, num_bonds = _parse_counts(lines[_LINES_BEFORE_ATOMS - 1], file, record)
    # A wrong count would silently lose atoms or take bonds for atoms.
    if end + num_bonds >= len(lines) or not lines[end + num_bonds].startswith("M  "):
        message = f"expected {end - _LINES_BEFORE_ATOMS} atoms, {num_bonds} bonds and then 'M  END'"
        raise DataError(file, message, record=record, field="counts line")
    numbers: list[int] = []
    coordinates: list[float] = []
    for atom, line in enumerate(lines[_LINES_BEFORE_ATOMS:end]):
        try:
            coordinates += float(line[:10]), float(line[10:20]), float(line[20:30])
            numbers.append(ELEMENTS[line[31:34].rstrip()])
        except (KeyError, ValueError) as error:
            texts = (line[:10], line[10:20], line[20:30])
            raise atom_error(file, record, atom, line[31:34].strip(), texts) from error
    return numbers, coordinates


def _parse_counts(line: str, file: str, record: str) -> tuple[int, int]:
    """The line after the last atom, and the number of bonds."""
    try:
        num_atoms, num_bonds = int(line[:3]), int(line[3:6])
    except ValueError:
        num_atoms, num_bonds = 0, 0
    if num_atoms < 1 or num_bonds < 0 or line[34:39] != "V2000":
        message = f"expected the numbers of atoms and bonds and V2000, got '{line.rstrip()[:60]}'"
        raise DataError(file, message, record=record, field="counts line")
    return _LINES_BEFORE_ATOMS + num_atoms, num_bonds


def _read_table(lines: Iterable[str], file: str) -> tuple[list[str], np.ndarray]:
    """The names and, float64 `[M, 19]`, the labels of a table."""
    rows = iter(lines)
    header = next(rows, "").strip()
    if header != _HEADER:
        raise DataError(file, f"expected the header {_HEADER}, got '{header[:60]}'")
    names: list[str] = []
    labels = array.array("d")
    row = "\n"
    for row in rows:
        fields = row.strip().split(",")
        if len(fields) != 1 + len(PUBLISHED_COLUMNS):
            message = f"expected {1 + len(PUBLISHED_COLUMNS)} columns, got {len(fields)}"
            raise DataError(file, message, record=fields[0][:40] or len(names))
        try:
            labels.extend(map(float, fields[1:]))
        except ValueError as error:
            raise number_error(file, fields[0], PUBLISHED_COLUMNS, fields[1:]) from error
        names.append(fields[0])
    if not row.endswith("\n"):  # digits may be missing, too
        raise DataError(
            file, "the last row has no line break: the file is cut off", record=names[-1]
        )
    table = np.array(labels, np.float64).reshape(-1, len(PUBLISHED_COLUMNS))
    _check_finite(table, names, file)
    return names, table


def _check_finite(table: np.ndarray, names: list[str], file: str) -> None:
    rows, columns = np.nonzero(~np.isfinite(table))
    if len(rows):
        name, field = names[rows[0]], PUBLISHED_COLUMNS[columns[0]]
        raise DataError(file, f"not finite: {table[rows[0], columns[0]]}", record=name, field=field)

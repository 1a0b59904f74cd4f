"""ASE's databases: SQLite files, read row by row when asked for, and JSON files, read at once."""

from __future__ import annotations

import contextlib
import os
import pathlib
import sqlite3
from typing import Any

import ase
import ase.db
import numpy as np
from ase.db.core import parse_selection
from ase.db.row import AtomsRow

from equiformer_jax.data.errors import DataError
from equiformer_jax.data.readers.file_format import HEAD_SIZE, describe_format
from equiformer_jax.data.readers.label_keys import LabelKeys
from equiformer_jax.data.readers.labeled_atoms import AtomsSequence, describe_failure
from equiformer_jax.data.structures import file_fingerprint

DATABASE_ENDINGS = (".db", ".json")


class DatabaseRows(AtomsSequence):
    """Rows of an ASE database. Each access opens the file anew, in whichever process or thread.

    Attributes:
      path: the file.
      ids: int64 `[n]`, the rows' numbers in the database.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        keys: LabelKeys,
        ids: np.ndarray,
        rows: dict[int, AtomsRow] | None,
        selection: str | None,
    ) -> None:
        """Takes rows that exist; see `read_ase_database`.

        Args:
          path: the file.
          keys: see `LabelKeys`.
          ids: at least one.
          rows: by number, where they are in memory.
          selection: how they were chosen.
        """
        self.path, self.ids, self._rows = pathlib.Path(path), ids, rows
        self.ids.flags.writeable = False
        self._open(keys, file_fingerprint(path, keys, selection))

    def __len__(self) -> int:
        return len(self.ids)

    def _record(self, index: int) -> str:
        return f"row {self.ids[index]}"

    def _atoms(self, index: int) -> ase.Atoms:
        number = int(self.ids[index])
        try:
            row = self._rows[number] if self._rows else _connect(self.path).get(id=number)
            atoms = row.toatoms()
            atoms.info = {**row.data, **row.key_value_pairs}
            return atoms
        except Exception as error:  # ASE raises whatever a damaged row leads it to
            message = f"ASE cannot read it: {describe_failure(error)}"
            raise DataError(self.path, message, record=self._record(index)) from error


def read_ase_database(
    path: str | os.PathLike[str], keys: LabelKeys | None = None, selection: str | None = None
) -> DatabaseRows:
    """Reads an ASE database.

    Labels are looked for among the results of a row's calculator, its key-value pairs and its
    `data`.

    Args:
      path: a `.db` (SQLite) or `.json` file.
      keys: what the labels are called and in which units they are; ASE's own names and units by
        default.
      selection: which rows, in ASE's notation: "natoms<50,relaxed=1".

    Returns:
      The rows in the order of their numbers: Å, eV, eV/Å, eV/Å³. `properties` hold key-value pairs
      and `data`, without the labels.

    Raises:
      FileNotFoundError: the file is not there.
      ValueError: the selection is malformed.
      DataError: the file is not such a database, no row is selected, or the first one lacks a label
        that was asked for. Whether the others have the same labels shows when they are read.
    """
    path, keys = pathlib.Path(path), keys or LabelKeys()
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    if path.suffix not in DATABASE_ENDINGS:
        raise DataError(path, f"expected a database called {' or '.join(DATABASE_ENDINGS)}")
    try:
        wanted = parse_selection(selection)
    except Exception as error:  # ASE raises whatever a malformed text leads it to
        raise ValueError(f"selection: {selection!r}: {describe_failure(error)}") from error
    rows = None
    try:
        if path.suffix == ".json":
            rows = {row.id: row for row in _connect(path).select(selection)}
            ids = sorted(rows)
        else:
            ids = _find_rows(path, *wanted)
    except Exception as error:
        with path.open("rb") as file:
            found = describe_format(file.read(HEAD_SIZE))
        message = f"not an ASE database; this is {found}: {describe_failure(error)}"
        raise DataError(path, message) from error
    if not ids:
        chosen = "" if selection is None else f" that fit {selection!r}"
        raise DataError(path, f"no rows{chosen} in this database")
    return DatabaseRows(path, keys, np.array(ids, np.int64), rows, selection)


def _connect(path: pathlib.Path) -> Any:
    return ase.db.connect(os.fspath(path), use_lock_file=False)


def _find_rows(path: pathlib.Path, keys: Any, comparisons: Any) -> list[int]:
    """Their numbers. ASE's own `select` takes 0.15 ms for each, and writes to an empty file."""
    statement, values = _connect(path).create_select_statement(keys, comparisons, what="systems.id")
    with contextlib.closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as db:
        return sorted(number for (number,) in db.execute(statement, values))

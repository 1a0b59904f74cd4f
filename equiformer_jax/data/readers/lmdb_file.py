"""Numbered records of LMDB files: keys "0", "1", ... and bytes, in one file or in many.

The Open Catalyst Project keeps its data sets so. A file may carry the number of its records, a
pickled integer, under the key "length"; a folder of files is read as one list, in their order.
"""

from __future__ import annotations

import io
import os
import pathlib
import threading
import weakref
from typing import Any

import lmdb

from equiformer_jax.data.errors import DataError
from equiformer_jax.data.readers.file_series import FileSeries, natural_order
from equiformer_jax.data.readers.lmdb_header import check_lmdb_file
from equiformer_jax.data.structures import digest, file_fingerprint
from equiformer_jax.restricted_pickle import PickleError, read_pickle

_LENGTH_KEY = b"length"


class LmdbRecords:
    """The records of one LMDB file, or of all `*.lmdb` files of a folder, by number.

    Files are opened read-only and without locks, so they must not be written to meanwhile; each is
    opened when it is first needed in a process, and again after the records were pickled or the
    process was forked. Records are read one by one and nothing is kept.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Finds the files and the number of records in each.

        Args:
          path: an `.lmdb` file, or a folder of them.

        Raises:
          FileNotFoundError: there is nothing at `path`.
          DataError: a file is not an LMDB file, is truncated, holds no records or has gaps.
        """
        self._opened: dict[pathlib.Path, _Opened] = {}
        files = _find_files(pathlib.Path(path))
        self._series = FileSeries(files, [self._count(file) for file in files])

    def __len__(self) -> int:
        return len(self._series)

    @property
    def files(self) -> tuple[pathlib.Path, ...]:
        """In the order of their records; numbers in names count as numbers."""
        return self._series.files

    def value(self, index: int) -> bytes:
        """The bytes of record `index`, from 0 to `len - 1`.

        Raises:
          DataError: the file does not hold it, or cannot be read any more.
        """
        file, record = self.place(index)
        value = self._get(file, str(record).encode(), record)
        if value is None:
            raise DataError(file, "missing from the file", record=record)
        return value

    def place(self, index: int) -> tuple[pathlib.Path, int]:
        """The file of record `index`, and its number within."""
        return self._series.place(index)

    @property
    def fingerprint(self) -> str:
        """A text that changes whenever a file may have changed."""
        return digest(*map(file_fingerprint, self.files))

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_opened": {}}

    def _count(self, file: pathlib.Path) -> int:
        """The number of records of a file, the first and the last of which are there."""
        stored = self._get(file, _LENGTH_KEY)
        count = self._count_keys(file) if stored is None else _stored_length(file, stored)
        if not count:
            raise DataError(file, "it holds no records; expected the keys '0', '1', ...")
        for record in (0, count - 1):
            if self._get(file, str(record).encode(), record) is None:
                raise DataError(
                    file, f"missing from the file, which should have {count}", record=record
                )
        return count

    def _count_keys(self, file: pathlib.Path) -> int:
        try:
            with self._environment(file).begin() as transaction:
                return sum(key.isdigit() for key in transaction.cursor().iternext(values=False))
        except lmdb.Error as error:
            raise DataError(file, f"its keys cannot be read: {error}") from error

    def _get(self, file: pathlib.Path, key: bytes, record: int | None = None) -> bytes | None:
        environment = self._environment(file)
        try:
            with environment.begin() as transaction:
                return transaction.get(key)
        except lmdb.Error as error:
            field = None if record is not None else key.decode()
            raise DataError(file, f"damaged: {error}", record=record, field=field) from error

    def _environment(self, file: pathlib.Path) -> lmdb.Environment:
        opened = self._opened.get(file)
        if opened is None or opened.process != os.getpid():
            opened = self._opened[file] = _open(file)
        return opened.environment


class _Opened:
    """An open file and the process that opened it: LMDB forbids to use it in a forked one."""

    def __init__(self, environment: lmdb.Environment) -> None:
        self.environment = environment
        self.process = os.getpid()


# LMDB opens a file once per process, so those who read the same one share it while any of them
# lives. Keys are device and number of the file, as LMDB itself tells files apart.
_shared: weakref.WeakValueDictionary[tuple[int, int], _Opened] = weakref.WeakValueDictionary()
_opening = threading.Lock()


def _open(file: pathlib.Path) -> _Opened:
    check_lmdb_file(file)
    status = file.stat()
    identity = (status.st_dev, status.st_ino)
    with _opening:
        opened = _shared.get(identity)
        if opened is None:
            opened = _shared[identity] = _Opened(_open_environment(file))
        return opened


def _open_environment(file: pathlib.Path) -> lmdb.Environment:
    try:
        return lmdb.open(
            os.fspath(file),
            subdir=False,
            readonly=True,
            lock=False,  # so there is no table of readers, and no limit to their number
            readahead=False,  # records are read in random order
        )
    except lmdb.Error as error:
        raise DataError(file, f"LMDB cannot open it: {error}") from error


def _forget_what_the_parent_opened() -> None:
    """Runs in a forked process, before anything else there can read."""
    global _opening
    _opening = threading.Lock()
    for opened in list(_shared.values()):
        opened.environment.close()
    _shared.clear()


os.register_at_fork(after_in_child=_forget_what_the_parent_opened)


def _find_files(path: pathlib.Path) -> tuple[pathlib.Path, ...]:
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such LMDB file or folder")
    if not path.is_dir():
        return (path,)
    files = sorted(path.glob("*.lmdb"), key=natural_order)
    if not files:
        raise DataError(path, "no files called *.lmdb in this folder")
    return tuple(files)


def _stored_length(file: pathlib.Path, stored: bytes) -> int:
    try:
        length = read_pickle(io.BytesIO(stored), {})
    except PickleError as error:
        raise DataError(file, str(error), field="length") from error
    if type(length) is not int or not 0 <= length < 2**40:
        raise DataError(file, "expected the number of records, an integer", field="length")
    return length

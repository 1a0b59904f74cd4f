"""Flat arrays in files: written piece by piece, checked and mapped into memory.

A folder holds one `.npy` file for each array and, written last, `manifest.json`, which says what
must be there. A folder without a manifest is one whose writer did not come to its end.
"""

from __future__ import annotations

import contextlib
import json
import pathlib
import zlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, BinaryIO

import numpy as np

from equiformer_jax.data.errors import DataError

MANIFEST = "manifest.json"

# Checksums of files up to this size are always compared: it takes a fraction of a second.
_SMALL_BYTES = 16 * 2**20
_BLOCK_BYTES = 2**24


def write_arrays(
    folder: pathlib.Path, chunks: Iterable[Mapping[str, np.ndarray]], key: str
) -> None:
    """Writes arrays that come in pieces.

    Args:
      folder: exists and is empty.
      chunks: pieces of all arrays by name, to be joined along the first axis; types may grow.
      key: what the arrays are of; goes into the manifest.

    Raises:
      DataError: the disk is full, say; names the folder.
    """
    writers: dict[str, _ArrayWriter] = {}
    try:
        for chunk in chunks:  # what goes wrong where the pieces come from is not the folder's fault
            with _blaming(folder):
                for name, piece in chunk.items():
                    if name not in writers:
                        writers[name] = _ArrayWriter(folder / f"{name}.npy", piece)
                    writers[name].append(piece)
        with _blaming(folder):
            for writer in writers.values():
                writer.close()
            arrays = {name: _describe(folder / f"{name}.npy") for name in writers}
            text = json.dumps({"key": key, "arrays": arrays}, indent=2)
            (folder / MANIFEST).write_text(text + "\n", encoding="utf-8")
    finally:
        for writer in writers.values():
            writer.close()


@contextlib.contextmanager
def _blaming(folder: pathlib.Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataError(folder, f"cannot be written: {error}") from error


def open_arrays(folder: pathlib.Path, key: str, verify: bool = False) -> dict[str, np.ndarray]:
    """Maps what `write_arrays` wrote, after checking that it is whole.

    Args:
      folder: where it is.
      key: what was given when it was written.
      verify: compare the checksums of all files and not of the small ones alone.

    Returns:
      Read-only arrays by name; their contents are read from disk when they are used.

    Raises:
      DataError: a file is missing, or is not what was written; names it.
    """
    manifest = _read_manifest(folder)
    if manifest.get("key") != key:
        raise DataError(folder / MANIFEST, f"expected '{key}'", field="key")
    return {
        name: _open_one(folder / f"{name}.npy", expected, verify)
        for name, expected in manifest["arrays"].items()
    }


def _read_manifest(folder: pathlib.Path) -> dict[str, Any]:
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(path, "cannot be read: the cache is not complete") from error
    except ValueError as error:
        raise DataError(path, f"is not JSON: {error}") from error
    if not isinstance(manifest, dict) or not isinstance(manifest.get("arrays"), dict):
        raise DataError(path, "expected a mapping", field="arrays")
    return manifest


def _describe(path: pathlib.Path) -> dict[str, Any]:
    array = np.load(path, mmap_mode="r")
    return {
        "shape": list(array.shape),
        "dtype": array.dtype.str,
        "bytes": path.stat().st_size,
        "crc32": _checksum(path),
    }


def _open_one(path: pathlib.Path, expected: Any, verify: bool) -> np.ndarray:
    try:
        size = path.stat().st_size
        if size != expected["bytes"]:
            raise DataError(path, f"has {size} bytes; expected {expected['bytes']}")
        array = np.load(path, mmap_mode="r", allow_pickle=False)
        found = [list(array.shape), array.dtype.str]
        if found != [expected["shape"], expected["dtype"]]:
            raise DataError(path, f"holds {found}; expected the shape and type of the manifest")
        if (verify or size <= _SMALL_BYTES) and _checksum(path) != expected["crc32"]:
            raise DataError(path, "its checksum differs: the file is damaged")
    except DataError:
        raise
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(path, f"cannot be read: {error!r}") from error
    return array


def _checksum(path: pathlib.Path) -> int:
    total = 0
    with open(path, "rb") as file:
        while block := file.read(_BLOCK_BYTES):
            total = zlib.crc32(block, total)
    return total


class _ArrayWriter:
    """One `.npy` file that grows along its first axis."""

    def __init__(self, path: pathlib.Path, example: np.ndarray) -> None:
        self._path, self._dtype, self._tail, self._rows = path, example.dtype, example.shape[1:], 0
        self._file: BinaryIO = open(path, "wb")  # noqa: SIM115 (closed by `close`)
        self._write_header()

    def append(self, piece: np.ndarray) -> None:
        wider = np.promote_types(self._dtype, piece.dtype)
        if wider != self._dtype:
            self._widen(wider)
        self._file.write(np.ascontiguousarray(piece, self._dtype).data)
        self._file.flush()  # the time of change shows that somebody is at work
        self._rows += len(piece)

    def close(self) -> None:
        """Writes the header anew, now that the number of rows is known."""
        if not self._file.closed:
            self._file.seek(0)
            self._write_header()
            self._file.close()

    def _write_header(self) -> None:
        # NumPy leaves room for the first axis to grow, so that the header keeps its length.
        shape = (self._rows, *self._tail)
        description = {"descr": self._dtype.str, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(self._file, description)

    def _widen(self, dtype: np.dtype) -> None:
        """Writes what is there already once more, in a type that holds what is to come."""
        self.close()
        narrow = self._path.with_suffix(".narrow")
        self._path.rename(narrow)
        old = np.load(narrow, mmap_mode="r")
        self._dtype, self._rows = dtype, 0
        self._file = open(self._path, "wb")  # noqa: SIM115
        self._write_header()
        rows = max(1, _BLOCK_BYTES * len(old) // old.nbytes) if old.nbytes else 1
        for start in range(0, len(old), rows):
            self.append(np.asarray(old[start : start + rows]))
        narrow.unlink()

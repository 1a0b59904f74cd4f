"""Checkpoints that PyTorch wrote, read without PyTorch and without running anything in them.

Both formats of `torch.save` are read: the zip archive (PyTorch 1.6 and later; the object as a
pickle, each storage as an entry of its own) and the older stream. The official release keeps its
parameters under `state_dict`, in OC20's checkpoints with a prefix `module.module.` left by
distributed training (specification, section 13, item 14).
"""

from __future__ import annotations

import io
import os
import pathlib
import reprlib
import struct
import zipfile
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from equiformer_jax.restricted_pickle import (
    CONTAINERS,
    NUMPY_OBJECTS,
    TORCH_OBJECTS,
    PickleError,
    UnknownNameError,
    is_torch_stream,
    read_pickle,
    read_torch_stream,
    storage_id,
)

PARAMETER_ENTRIES = (
    "state_dict",
    "model_state_dict",
    "model",
    "state_dict_ema",
    "model_ema",
    "ema_state_dict",
    "ema",
)
"""Where `read_state_dict` looks for parameters, the trained ones before their moving averages."""

_PREFIX = "module."
_ALLOWED: Mapping[str, Any] = {**CONTAINERS, **NUMPY_OBJECTS, **TORCH_OBJECTS}
_CONVERT = (
    "Where PyTorch is installed, load the file and write its parameters alone: "
    "torch.save(model.state_dict(), path)"
)
# What `zipfile` raises on malformed archives.
_ZIP_SYMPTOMS = (
    EOFError,
    OSError,
    OverflowError,
    RuntimeError,
    ValueError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)


class TorchFileError(ValueError):
    """A file is no checkpoint of PyTorch, is damaged, or holds more than plain data."""


def read_torch_file(path: str | os.PathLike[str]) -> Any:
    """Reads a file that `torch.save` wrote.

    Args:
      path: a `.pt`, `.pth` or `.pth.tar` file, whatever its name.

    Returns:
      The object that was saved. Tensors and parameters are read-only NumPy arrays (bfloat16 ones of
      the type `ml_dtypes.bfloat16`), dicts of every kind are dicts, sizes are tuples, devices are
      strings and an `argparse.Namespace` is a `restricted_pickle.Record`.

    Raises:
      TorchFileError: the file is truncated, damaged, of another kind, written on a big-endian
        machine, or refers to a class or function that plain data does not need.
      OSError: the file cannot be opened.
    """
    path = pathlib.Path(path)
    with path.open("rb") as file:
        start = file.read(265)
    try:
        if start.startswith(b"PK\x03\x04"):
            return _read_archive(path)
        if is_torch_stream(start):
            return read_torch_stream(path.read_bytes())
    except UnknownNameError as error:
        raise TorchFileError(f"{path}: {error}. {_CONVERT}") from error
    except PickleError as error:
        raise TorchFileError(f"{path}: {error}") from error
    raise TorchFileError(f"{path} is {_what_it_is(start)}; expected a file written by torch.save")


def read_state_dict(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Reads the parameters and buffers of a model from a file that `torch.save` wrote.

    They are under the first of `PARAMETER_ENTRIES` that is a dict (or one level deeper, as in
    `{"ema": {"state_dict": ...}}`); without such an entry the file itself is a dict of tensors.
    A prefix `module.` that all names share is removed, as often as it occurs.

    Args:
      path: as for `read_torch_file`.

    Returns:
      Read-only arrays by their official names, in the order of the file.

    Raises:
      TorchFileError: as `read_torch_file`; or the parameters are not there, or among them is
        anything that is not a named tensor.
      OSError: the file cannot be opened.
    """
    content = read_torch_file(path)
    if not isinstance(content, dict):
        raise TorchFileError(
            f"{path} holds a {type(content).__name__}; expected a checkpoint or a dict of tensors"
        )
    place, parameters = _parameter_entry(content)
    _check_parameters(parameters, f"{path}, {place}")
    while all(name.startswith(_PREFIX) for name in parameters):
        parameters = {name.removeprefix(_PREFIX): value for name, value in parameters.items()}
    return parameters


def _parameter_entry(content: dict[Any, Any]) -> tuple[str, dict[Any, Any]]:
    """Returns where in a checkpoint the parameters are, in words, and their dict."""
    for name in PARAMETER_ENTRIES:
        entry = content.get(name)
        if isinstance(entry, dict):
            for inner in PARAMETER_ENTRIES:
                if isinstance(entry.get(inner), dict):
                    return f"entry {name}.{inner}", entry[inner]
            return f"entry {name}", entry
    return f"without an entry {', '.join(PARAMETER_ENTRIES)}", content


def _check_parameters(parameters: dict[Any, Any], place: str) -> None:
    if not parameters:
        raise TorchFileError(f"{place}: there are no parameters")
    for name, value in parameters.items():
        if not isinstance(name, str) or not isinstance(value, np.ndarray):
            raise TorchFileError(
                f"{place}: {reprlib.repr(name)} is a {type(value).__name__}; "
                "expected named tensors and nothing else"
            )


def _read_archive(path: pathlib.Path) -> Any:
    try:
        with zipfile.ZipFile(path) as archive:
            return _Archive(archive, path.stat().st_size).read()
    except PickleError:
        raise
    except _ZIP_SYMPTOMS as error:
        raise PickleError(f"truncated or damaged zip archive: {error}") from error


class _Archive:
    """The zip format: entries `NAME/data.pkl`, `NAME/byteorder` and `NAME/data/KEY` per storage."""

    def __init__(self, archive: zipfile.ZipFile, file_size: int) -> None:
        # Compressed or overlapping entries could hold far more than the file does.
        if sum(entry.file_size for entry in archive.infolist()) > file_size:
            raise PickleError("the entries of the zip archive are larger than the file")
        self.archive = archive
        self.names = set(archive.namelist())
        self.folder = self._folder()
        self.contents: dict[str, bytes] = {}

    def _folder(self) -> str:
        pickles = [name for name in self.names if name == "data.pkl" or name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise PickleError(
                f"a zip archive with {len(pickles)} entries data.pkl; expected one, from torch.save"
            )
        folder = pickles[0].removesuffix("data.pkl")
        if folder + "constants.pkl" in self.names:
            raise PickleError("a TorchScript archive (torch.jit.save), not a checkpoint")
        return folder

    def read(self) -> Any:
        """Returns the object that was saved."""
        if self.folder + "byteorder" in self.names:
            byte_order = self._entry("byteorder")
            if byte_order != b"little":
                raise PickleError(f"byte order {byte_order[:20]!r}; only b'little' is supported")
        return read_pickle(io.BytesIO(self._entry("data.pkl")), _ALLOWED, self._storage)

    def _storage(self, identifier: Any) -> np.ndarray:
        dtype, key, numel = storage_id(identifier)
        if key not in self.contents:
            self.contents[key] = self._entry(f"data/{key}")
        contents = self.contents[key]
        expected = numel * dtype.itemsize
        if len(contents) != expected:
            raise PickleError(
                f"the storage data/{key} has {len(contents)} bytes; "
                f"expected {expected} for {numel} {dtype}"
            )
        return np.frombuffer(contents, dtype)

    def _entry(self, name: str) -> bytes:
        if self.folder + name not in self.names:
            raise PickleError(f"damaged zip archive: no entry {(self.folder + name)[:200]!r}")
        return self.archive.read(self.folder + name)


def _what_it_is(start: bytes) -> str:
    """Returns what a file that starts with these bytes seems to be."""
    if not start:
        return "empty"
    if b"PK\x03\x04".startswith(start):
        return "truncated"
    if start[257:262] == b"ustar":
        return "a tar archive (the format of PyTorch before 0.4 is not supported)"
    if start.startswith(b"\x89HDF\r\n\x1a\n"):
        return "an HDF5 file"
    if start.startswith(b"\x1f\x8b"):
        return "a gzip file"
    if start.startswith(b"\x80"):
        return "truncated, or a pickle that torch.save did not write"
    return f"a file that starts with {start[:8]!r}"

"""The stream that `torch.save` wrote before PyTorch 1.6; tensors in other pickles still are one.

Five pickles follow one another: a magic number, the version, facts about the machine, the object
and the list of its storages' keys. Then comes for each key the number of elements (8 bytes) and the
elements.
"""

from __future__ import annotations

import io
import reprlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from equiformer_jax.restricted_pickle.interpreter import read_pickle
from equiformer_jax.restricted_pickle.numpy_objects import NUMPY_OBJECTS
from equiformer_jax.restricted_pickle.stand_ins import CONTAINERS, PickleError
from equiformer_jax.restricted_pickle.torch_objects import TORCH_OBJECTS, storage_id

# How every protocol writes the magic number, 0x1950A86A20F9469CFC6C, after some bytes of its own.
_MAGIC = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
_VERSION = 1001
_STREAM_OBJECTS: Mapping[str, Any] = {**CONTAINERS, **NUMPY_OBJECTS, **TORCH_OBJECTS}


def is_torch_stream(start: bytes) -> bool:
    """Tells whether a file that starts with these bytes (30 or more) is such a stream."""
    return start.startswith(b"\x80") and _MAGIC in start[:30]


def read_torch_stream(data: bytes) -> Any:
    """Reads a whole stream.

    Args:
      data: the stream, and nothing behind it.

    Returns:
      The object that was saved, tensors and storages as NumPy arrays.

    Raises:
      PickleError: the stream is truncated, damaged, of another version or from a big-endian
        machine, or its object holds something that is not on the list.
    """
    if not is_torch_stream(data):
        raise PickleError("it does not start with the magic number of PyTorch")
    stream = io.BytesIO(data)
    read_pickle(stream, {})  # the magic number
    version = read_pickle(stream, {})
    if version != _VERSION:
        raise PickleError(
            f"version {reprlib.repr(version)} of PyTorch's stream is unknown, only {_VERSION}"
        )
    machine = read_pickle(stream, {})
    if not isinstance(machine, dict) or machine.get("little_endian") is not True:
        raise PickleError("it was not written on a little-endian machine")

    storages = _Storages(limit=len(data))
    result = read_pickle(stream, _STREAM_OBJECTS, storages.reserve)
    storages.fill(stream, keys=read_pickle(stream, {}))
    if stream.read(1):
        raise PickleError("there is something behind the end of the stream")
    return result


def load_tensor_bytes(data: Any) -> Any:
    """Stands in for `torch.storage._load_from_bytes`: the storage of a tensor, a vector."""
    if not isinstance(data, (bytes, bytearray)):
        raise PickleError("a storage that is not made of bytes")
    return read_torch_stream(bytes(data))


class _Storages:
    """The storages of one stream: the object mentions them before their elements come."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.reserved = 0
        self.arrays: dict[str, np.ndarray] = {}

    def reserve(self, identifier: Any) -> np.ndarray:
        """Returns the array of a storage, to be filled later."""
        dtype, key, numel = storage_id(identifier)
        if key not in self.arrays:
            self.reserved += numel * dtype.itemsize
            if self.reserved > self.limit:
                raise PickleError(
                    f"truncated or damaged: the storage {reprlib.repr(key)} of {numel} {dtype} "
                    "is larger than what follows"
                )
            self.arrays[key] = np.empty(numel, dtype)
        array = self.arrays[key]
        if (array.dtype, len(array)) != (dtype, numel):
            raise PickleError(
                f"the storage {reprlib.repr(key)} is mentioned with two types or lengths"
            )
        return array

    def fill(self, stream: io.BytesIO, keys: Any) -> None:
        """Reads the elements of every storage, in the order of `keys`."""
        if (
            not isinstance(keys, list)
            or not all(isinstance(key, str) for key in keys)
            or sorted(keys) != sorted(self.arrays)
        ):
            raise PickleError("the list of storages does not match those that the object uses")
        for key in keys:
            array = self.arrays[key]
            numel = int.from_bytes(stream.read(8), "little")
            contents = stream.read(array.nbytes)
            if numel != len(array) or len(contents) != array.nbytes:
                raise PickleError(
                    f"truncated or damaged: the storage {reprlib.repr(key)} does not hold "
                    f"{len(array)} elements"
                )
            array[:] = np.frombuffer(contents, array.dtype)

"""Stand-ins for what NumPy writes into pickles: types, arrays and scalars.

NumPy's own `__setstate__` methods trust their argument; these check it and make views of the bytes
in the pickle.
"""

from __future__ import annotations

import math
import re
import reprlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from equiformer_jax.restricted_pickle.stand_ins import Pending, PickleError

# Booleans, integers, floats, complex numbers, byte strings and text; no objects, no records.
_TYPE_CODE = re.compile(r"[?biufcSU]\d*")


class _PendingType(Pending):
    """A NumPy type whose byte order is still to come."""

    def __init__(self, code: str, *_: Any) -> None:
        if not isinstance(code, str) or not _TYPE_CODE.fullmatch(code):
            raise PickleError(
                f"the type {reprlib.repr(code)} is not supported, only plain numbers and text"
            )
        self.dtype = np.dtype(code)
        if not self.dtype.itemsize:
            raise PickleError(f"the type {code!r} has no size")

    def finish(self, state: Any) -> np.dtype[Any]:
        byte_order = state[1]
        if byte_order not in ("<", "|", "="):
            raise PickleError(f"byte order {reprlib.repr(byte_order)} is not supported, only '<'")
        return self.dtype


class _PendingArray(Pending):
    """An array of which neither the shape nor the contents are known yet."""

    def __init__(self, *_: Any) -> None:
        pass

    def finish(self, state: Any) -> np.ndarray:
        _, shape, dtype, is_fortran, contents = state
        return _array(contents, dtype, shape, "F" if is_fortran is True else "C")


def _array(contents: Any, dtype: Any, shape: Any, order: Any = "C") -> np.ndarray:
    """Returns a view of `contents` (bytes) with this type and shape."""
    if not isinstance(contents, (bytes, bytearray)) or not isinstance(dtype, np.dtype):
        raise PickleError("the contents of an array are not bytes of a known type")
    if not isinstance(shape, tuple) or any(not isinstance(n, int) or n < 0 for n in shape):
        raise PickleError(f"an array has the shape {reprlib.repr(shape)}")
    expected = math.prod(shape) * dtype.itemsize
    if len(contents) != expected:
        raise PickleError(
            f"an array of shape {shape} and type {dtype} needs {expected} bytes, "
            f"the pickle holds {len(contents)}"
        )
    if not expected:
        return np.empty(shape, dtype)
    return np.frombuffer(contents, dtype).reshape(shape, order="F" if order == "F" else "C")


def _scalar(dtype: Any, contents: Any) -> Any:
    return _array(contents, dtype, (1,))[0]


def _encode(text: Any, encoding: Any) -> bytes:
    # How protocol 2 writes bytes: as the text of the same code points.
    if not isinstance(text, str) or encoding != "latin1":
        raise PickleError(f"only text in latin1 is encoded, not in {reprlib.repr(encoding)}")
    return text.encode("latin1")


def _empty_bytes() -> bytes:
    # How protocol 2 writes bytes that are empty.
    return b""


NUMPY_OBJECTS: Mapping[str, Any] = {
    "_codecs.encode": _encode,
    "builtins.bytes": _empty_bytes,
    "__builtin__.bytes": _empty_bytes,
    "numpy.dtype": _PendingType,
    "numpy.ndarray": "numpy.ndarray",  # only ever mentioned
    # NumPy 2 renamed `numpy.core`; files hold either name.
    **{
        f"numpy.{core}.{name}": stand_in
        for core in ("core", "_core")
        for name, stand_in in {
            "multiarray._reconstruct": _PendingArray,
            "multiarray.scalar": _scalar,
            "numeric._frombuffer": _array,
        }.items()
    },
}
"""Stand-ins for NumPy's types, arrays and scalars, and for bytes in old protocols."""

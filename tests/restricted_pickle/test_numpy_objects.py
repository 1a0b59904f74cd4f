"""NumPy's arrays and scalars in pickles."""

from __future__ import annotations

import io
import pickle

import numpy as np
import pytest

from equiformer_jax.restricted_pickle import NUMPY_OBJECTS, PickleError, read_pickle
from tests import pickle_assembler as asm

PROTOCOLS = (2, 3, 4, 5)
TYPES = ("?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", "c8", "c16")


def read(data: bytes):
    return read_pickle(io.BytesIO(data), NUMPY_OBJECTS)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("code", TYPES)
def test_arrays_and_scalars_of_every_type(code, protocol):
    array = np.arange(-3, 3).astype(code).reshape(2, 3)
    result = read(pickle.dumps([array, array[0, 1], array], protocol))
    np.testing.assert_array_equal(result[0], array)
    assert result[0].dtype == array.dtype and type(result[0]) is np.ndarray
    assert result[1] == array[0, 1] and type(result[1]) is type(array[0, 1])
    assert result[2] is result[0]


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    "array",
    [
        np.arange(6.0).reshape(2, 3).T,
        np.asfortranarray(np.arange(24.0).reshape(2, 3, 4)),
        np.arange(10.0)[::3],
        np.zeros((0, 3)),
        np.array(2.5),
        np.array(["a", "longer"]),
        np.array([b"a", b"longer"]),
    ],
    ids=["transposed", "fortran", "strided", "empty", "scalar", "text", "bytes"],
)
def test_arrays_of_every_layout(array, protocol):
    result = read(pickle.dumps(array, protocol))
    np.testing.assert_array_equal(result, array)
    assert (result.shape, result.dtype) == (array.shape, array.dtype)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_types_alone(protocol):
    assert read(pickle.dumps(np.dtype("f4"), protocol)) == np.float32


@pytest.mark.parametrize("core", ["core", "_core"])
def test_both_names_of_the_core(core):
    dtype = asm.with_state(
        asm.call("numpy.dtype", "f8", False, True), (3, "<", None, None, None, -1, -1, 0)
    )
    encoded = asm.call("_codecs.encode", np.float64(0.1).tobytes().decode("latin1"), "latin1")
    scalar = asm.call(f"numpy.{core}.multiarray.scalar", dtype, encoded)
    assert read(asm.assemble(scalar)) == 0.1


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.array([{}]), "'O8' is not supported"),
        (np.zeros(2, [("a", "f8")]), "'V8' is not supported"),
        (np.array(["2020-01-01"], "M8[D]"), "'M8' is not supported"),
        (np.arange(3.0).astype(">f8"), "byte order '>' is not supported"),
    ],
    ids=["objects", "records", "dates", "big-endian"],
)
def test_other_types_are_refused_by_name(array, message, protocol):
    with pytest.raises(PickleError, match=message):
        read(pickle.dumps(array, protocol))


def array_code(shape, contents: bytes, code: str = "f8") -> asm.Code:
    dtype = asm.with_state(
        asm.call("numpy.dtype", code, False, True), (3, "<", None, None, None, -1, -1, 0)
    )
    empty = asm.call("numpy.core.multiarray._reconstruct", asm.mention("numpy.ndarray"), (0,), b"b")
    return asm.with_state(empty, (1, shape, dtype, False, contents))


@pytest.mark.parametrize(
    "value",
    [
        array_code((2**60,), b"x"),
        array_code((3,), b"x" * 16),
        array_code((-1,), b"x" * 8),
        array_code([1], b"x" * 8),
        array_code((1.0,), b"x" * 8),
        array_code((1,), "text"),
        array_code((0,), b"", "S0"),
        array_code((0,), b"", "f9"),
        array_code((0,), b"", "O8"),
        asm.call("numpy.dtype", ["f8"]),
        asm.call("numpy.core.multiarray.scalar", asm.mention("numpy.ndarray"), b"x"),
        asm.call("numpy.core.multiarray.scalar"),
        asm.call("numpy.ndarray", (10**12,)),
        asm.call("_codecs.encode", "x", "rot13"),
        asm.call("_codecs.encode", "\u20ac", "latin1"),
        asm.call("_codecs.encode", ["x"], "latin1"),
        asm.call("builtins.bytes", 10**12),
        asm.with_state(asm.call("numpy.dtype", "f8"), None),
        asm.with_state(asm.call("numpy.core.multiarray._reconstruct"), (1, (0,))),
        asm.with_state(array_code((1,), b"x" * 8), (1, (0,), None, False, b"")),
    ],
)
def test_damaged_and_hostile_arrays_are_refused(value):
    # `bytes` in a pickle of protocol 2 are calls of `_codecs.encode`, made by the assembler.
    with pytest.raises(PickleError):
        read(asm.assemble(value))


def test_the_assembler_writes_a_good_array():
    good = read(asm.assemble(array_code((2,), np.array([1.0, 2.0]).tobytes())))
    np.testing.assert_array_equal(good, [1.0, 2.0])

"""Tensors in pickles, and the stream in which PyTorch writes their storages."""

from __future__ import annotations

import io

import ml_dtypes
import numpy as np
import pytest

from equiformer_jax.restricted_pickle import (
    CONTAINERS,
    TORCH_OBJECTS,
    PickleError,
    load_tensor_bytes,
    read_pickle,
    read_torch_stream,
    storage_id,
)
from tests import pickle_assembler as asm

STORAGES = {
    "DoubleStorage": np.float64,
    "FloatStorage": np.float32,
    "HalfStorage": np.float16,
    "BFloat16Storage": ml_dtypes.bfloat16,
    "ComplexDoubleStorage": np.complex128,
    "ComplexFloatStorage": np.complex64,
    "LongStorage": np.int64,
    "IntStorage": np.int32,
    "ShortStorage": np.int16,
    "CharStorage": np.int8,
    "ByteStorage": np.uint8,
    "BoolStorage": np.bool_,
}


def storage(values, kind: str = "FloatStorage", key: str = "0") -> asm.Storage:
    array = np.asarray(values, STORAGES[kind])
    return asm.Storage(f"torch.{kind}", key, array.tobytes(), array.size)


def read(value, **storages):
    arrays = {name: np.asarray(array) for name, array in storages.items()}
    return read_pickle(
        io.BytesIO(asm.assemble(value)),
        {**CONTAINERS, **TORCH_OBJECTS},
        lambda identifier: arrays[storage_id(identifier).key],
    )


@pytest.mark.parametrize("kind", STORAGES)
def test_every_storage_class(kind):
    numbers = storage(range(6), kind)
    result = read_torch_stream(asm.stream(asm.tensor(numbers.mention(), (2, 3), (3, 1)), numbers))
    assert result.dtype == STORAGES[kind]
    np.testing.assert_array_equal(
        result.astype(np.complex128), np.arange(6).astype(STORAGES[kind]).reshape(2, 3)
    )


@pytest.mark.parametrize("name", [name for name in TORCH_OBJECTS if "float" in name])
def test_types_are_numpy_types(name):
    assert str(read(asm.mention(name))) == name.removeprefix("torch.")


@pytest.mark.parametrize(
    ("size", "stride", "offset"),
    [
        ((), (), 0),
        ((), (), 11),
        ((12,), (1,), 0),
        ((3, 4), (4, 1), 0),
        ((4, 3), (1, 4), 0),  # transposed
        ((2, 2), (4, 2), 1),  # a slice
        ((3,), (4,), 3),  # a column
        ((2, 3, 2), (6, 2, 1), 0),
        ((5, 2), (0, 1), 4),  # expanded
        ((0,), (1,), 0),
        ((2, 0, 3), (3, 3, 1), 12),
        ((1, 1), (100, 100), 11),  # strides of axes of length 1 mean nothing
    ],
)
def test_offsets_and_strides(size, stride, offset):
    values = np.arange(12.0, dtype=np.float32)
    mention = storage(values).mention()
    result = read(asm.tensor(mention, size, stride, offset), **{"0": values})
    assert result.shape == size
    for index in np.ndindex(*size):
        assert result[index] == values[offset + np.dot(index, stride).astype(int)]


def test_tensors_that_share_a_storage_share_memory():
    numbers = storage(range(6))
    pair = [asm.tensor(numbers.mention(), (4,), (1,), offset) for offset in (0, 2)]
    first, second = read_torch_stream(asm.stream(pair, numbers))
    assert np.shares_memory(first, second)
    np.testing.assert_array_equal(second, [2, 3, 4, 5])
    with pytest.raises(ValueError, match="read-only"):
        first[0] = 1


def test_parameters_and_attributes_are_their_tensors():
    numbers = storage([1, 2])
    hooks = asm.call("collections.OrderedDict")
    arguments = (numbers.mention(), 0, (2,), (1,), False, hooks)
    tensor = asm.tensor(numbers.mention(), (2,), (1,))
    value = [
        asm.call("torch._utils._rebuild_parameter", tensor, True, hooks),
        asm.call("torch._utils._rebuild_parameter_with_state", tensor, True, hooks, {"name": 1}),
        asm.call("torch._utils._rebuild_tensor", *arguments[:4]),
        asm.call(
            "torch._tensor._rebuild_from_type_v2",
            asm.mention("torch._utils._rebuild_tensor_v2"),
            asm.mention("torch.Tensor"),
            arguments,
            {"name": 1},
        ),
    ]
    for result in read(value, **{"0": np.float32([1, 2])}):
        np.testing.assert_array_equal(result, [1, 2])


def test_a_tensor_of_bytes_with_a_type():
    values = np.arange(6, dtype=np.uint16)
    untyped = asm.Storage("torch.storage.UntypedStorage", "0", values.tobytes(), 12)
    value = asm.call(
        "torch._utils._rebuild_tensor_v3",
        *(untyped.mention(), 1, (2, 2), (2, 1), False, asm.call("collections.OrderedDict")),
        asm.mention("torch.uint16"),
    )
    np.testing.assert_array_equal(read_torch_stream(asm.stream(value, untyped)), [[1, 2], [3, 4]])


def test_sizes_and_devices():
    value = {
        "size": asm.call("torch.Size", (2, 3)),
        "cpu": asm.call("torch.device", "cpu"),
        "cuda": asm.call("torch.device", "cuda", 1),
    }
    assert read(value) == {"size": (2, 3), "cpu": "cpu", "cuda": "cuda:1"}


def hostile_tensors():
    numbers = storage(range(6)).mention()
    expanded = asm.tensor(numbers, (10**9,), (0,))
    return {
        "beyond the end": asm.tensor(numbers, (7,), (1,)),
        "offset beyond the end": asm.tensor(numbers, (1,), (1,), 6),
        "offset beyond memory": asm.tensor(numbers, (), (), 2**62),
        "negative offset": asm.tensor(numbers, (2,), (1,), -1),
        "negative stride": asm.tensor(numbers, (2,), (-1,), 3),
        "stride beyond the end": asm.tensor(numbers, (2, 3), (4, 1)),
        "negative size": asm.tensor(numbers, (-1,), (1,)),
        "size of another length": asm.tensor(numbers, (2, 3), (1,)),
        "size too large": asm.tensor(numbers, (2**64,), (0,)),
        "too many axes": asm.tensor(numbers, (1,) * 100, (1,) * 100),
        "size of text": asm.tensor(numbers, ("2",), (1,)),
        "size is a list": asm.call("torch._utils._rebuild_tensor", numbers, 0, [2], [1]),
        "storage is text": asm.tensor(asm.Code(asm.code("text")), (2,), (1,)),
        "storage is a tensor of strides": asm.tensor(expanded, (10**9,), (1,)),
        "storage is a matrix": asm.tensor(asm.tensor(numbers, (2, 3), (3, 1)), (6,), (1,)),
        "too few arguments": asm.call("torch._utils._rebuild_tensor_v2", numbers),
        "type of bytes": asm.call(
            "torch._utils._rebuild_tensor_v3", numbers, 0, (1,), (1,), False, None, "float32"
        ),
        "bytes that do not fit": asm.call(
            *("torch._utils._rebuild_tensor_v3", storage([1] * 3, "ByteStorage").mention()),
            *(0, (1,), (1,), False, None, asm.mention("torch.float32")),
        ),
        "function is text": asm.call("torch._tensor._rebuild_from_type_v2", "eval", None, (), None),
        "called class": asm.call("torch.Tensor", 3),
        "called storage": asm.call("torch.FloatStorage", 10**12),
        "size of lists": asm.call("torch.Size", ([1],)),
        "device of a list": asm.call("torch.device", ["cpu"]),
        "long device": asm.call("torch.device", "x" * 1000, 1),
    }


@pytest.mark.parametrize("name", hostile_tensors())
def test_hostile_tensors_are_refused(name):
    arrays = {"0": np.arange(6.0)}
    if name == "bytes that do not fit":
        arrays = {"0": np.zeros(3, np.uint8)}
    with pytest.raises(PickleError):
        read(hostile_tensors()[name], **arrays)


@pytest.mark.parametrize(
    "identifier",
    [
        "storage",
        ("module", "Net", "net.py", "import os"),
        ("storage", asm.mention("torch.float32"), "0"),
        ("storage", "FloatStorage", "0", "cpu", 6),
        ("storage", asm.mention("torch.FloatStorage"), 0, "cpu", 6),
        ("storage", asm.mention("torch.FloatStorage"), "0", "cpu", -6),
        ("storage", asm.mention("torch.FloatStorage"), "0", "cpu", "6"),
        ("storage", asm.mention("torch.FloatStorage"), "0", "cpu", 6, ("1", 0, 3)),
    ],
)
def test_other_references_are_refused(identifier):
    with pytest.raises(PickleError):
        read(asm.persistent(identifier), **{"0": np.arange(6.0)})


def test_a_deeply_nested_constructor_is_refused():
    function = asm.mention("torch._tensor._rebuild_from_type_v2")
    arguments = b")"
    for _ in range(5000):
        arguments = b"(" + function + b"N" + arguments + b"Nt"
    with pytest.raises(PickleError, match="recursion"):
        read(asm.Code(function + arguments + b"R"))


def test_several_storages_and_one_that_is_empty():
    first, second, empty = storage([1, 2]), storage([3], "LongStorage", "1"), storage([], key="2")
    value = {
        "a": asm.tensor(first.mention(None), (2,), (1,)),
        "b": asm.tensor(second.mention(None), (), ()),
        "c": asm.tensor(empty.mention(None), (0, 4), (4, 1)),
    }
    result = read_torch_stream(asm.stream(value, first, second, empty))
    np.testing.assert_array_equal(result["a"], [1, 2])
    assert result["b"] == 3 and result["c"].shape == (0, 4)


def test_a_storage_inside_another_pickle():
    numbers = storage([1.5, 2.5, 3.5])
    contents = asm.stream(numbers.mention(), numbers)
    inner = asm.Code(b"B" + len(contents).to_bytes(4, "little") + contents)
    value = asm.tensor(asm.call("torch.storage._load_from_bytes", inner), (2,), (2,))
    allowed = {
        **CONTAINERS,
        **TORCH_OBJECTS,
        "torch.storage._load_from_bytes": load_tensor_bytes,
    }
    result = read_pickle(io.BytesIO(asm.assemble(value)), allowed)
    np.testing.assert_array_equal(result, [1.5, 3.5])

    # One such storage is not decoded again and again ...
    again = asm.mention("torch.storage._load_from_bytes") + b"h\x01\x85R"
    large = storage(np.zeros(10_000))
    contents = asm.stream(large.mention(), large)
    inner = asm.Code(b"B" + len(contents).to_bytes(4, "little") + contents)
    remembered = inner + b"q\x010](" + again * 3 + b"e"
    with pytest.raises(PickleError, match="makes more bytes than it holds"):
        read_pickle(io.BytesIO(b"\x80\x03" + remembered + b"."), allowed)
    # ... and a number is not a wish for that many bytes.
    with pytest.raises(PickleError, match="not made of bytes"):
        load_tensor_bytes(10**12)


def streams():
    numbers, other = storage(range(6)), storage([1], key="1")
    value = [asm.tensor(numbers.mention(), (6,), (1,))]
    good = asm.stream(value, numbers)
    wrong_length = numbers._replace(numel=5)
    huge = asm.Storage("torch.FloatStorage", "0", b"", 2**40)
    two_types = [numbers.mention(), storage(range(6), "IntStorage").mention()]
    return {
        "magic number": (good[1:], "magic number"),
        "version": (good.replace(b"M\xe9\x03.", b"M\xea\x03.", 1), "version 1002"),
        "byte order": (asm.stream(value, numbers, little_endian=False), "little-endian"),
        "missing storage": (asm.stream(value), "list of storages"),
        "additional storage": (asm.stream(value, numbers, other), "list of storages"),
        "storage given twice": (asm.stream(value, numbers, numbers), "list of storages"),
        "keys are numbers": (asm.stream([], numbers._replace(key=0)), "list of storages"),
        "length of the storage": (asm.stream(value, wrong_length), "does not hold 6"),
        "bytes behind the end": (good + b"x", "behind the end"),
        "huge storage": (asm.stream(huge.mention(), huge), "larger than what follows"),
        "storage with two types": (asm.stream(two_types, numbers), "two types"),
        "no code": (asm.stream(asm.call("os.system", "ls")), r"asks for os\.system"),
    }


@pytest.mark.parametrize("name", streams())
def test_damaged_streams_are_refused(name):
    data, message = streams()[name]
    with pytest.raises(PickleError, match=message):
        read_torch_stream(data)


def test_every_truncation_of_a_stream_is_noticed():
    numbers = storage(range(3))
    data = asm.stream({"a": asm.tensor(numbers.mention(), (3,), (1,))}, numbers)
    read_torch_stream(data)
    for length in range(len(data)):
        with pytest.raises(PickleError):
            read_torch_stream(data[:length])

"""The interpreter gives what pickle gives for plain data, and refuses everything else."""

from __future__ import annotations

import argparse
import builtins
import collections
import contextlib
import io
import os
import pickle
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from equiformer_jax.restricted_pickle import (
    CONTAINERS,
    NUMPY_OBJECTS,
    PickleError,
    Record,
    UnknownNameError,
    read_pickle,
    record_of,
)
from tests import pickle_assembler as asm

PROTOCOLS = (2, 3, 4, 5)
ALLOWED = {**CONTAINERS, **NUMPY_OBJECTS}

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary()
    | st.binary().map(bytearray)
)
keys = st.none() | st.booleans() | st.integers() | st.text() | st.binary()
plain_data = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner)
        | st.lists(inner).map(tuple)
        | st.dictionaries(keys, inner)
        | st.sets(keys)
        | st.frozensets(keys)
    ),
)


def read(data: bytes, allowed: dict | None = None, load=None):
    return read_pickle(io.BytesIO(data), ALLOWED if allowed is None else allowed, load)


@given(plain_data, st.sampled_from((4, 5)))
def test_plain_data_comes_back_as_pickle_gives_it(value, protocol):
    data = pickle.dumps(value, protocol)
    if protocol == 4 and b"bytearray" in data:
        return  # a call of builtins.bytearray, which is not on the list
    assert read(data) == pickle.loads(data)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_every_protocol(protocol):
    shared = ["shared", 2**80, -1, 1.5, 70000, 300]
    value = {"a": shared, "b": (shared, ("x", b"\xff\x00", b""), {1, 2}), 3: {"c": [None, True]}}
    value |= {str(i): i for i in range(300)}
    result = read(pickle.dumps(value, protocol))
    assert result == value
    assert result["a"] is result["b"][0]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_containers_of_the_standard_library(protocol):
    counts = collections.Counter("aab")
    default = collections.defaultdict(list, a=[1])
    ordered = collections.OrderedDict(z=1, a=2)
    namespace = argparse.Namespace(rate=0.1)
    result = read(pickle.dumps([counts, default, ordered, namespace, {3, 4}], protocol))
    assert result[:3] == [{"a": 2, "b": 1}, {"a": [1]}, {"z": 1, "a": 2}]
    assert list(result[2]) == ["z", "a"]
    assert isinstance(result[3], Record)
    assert (result[3].class_name, result[3].state) == ("argparse.Namespace", {"rate": 0.1})
    assert result[4] == {3, 4}


def test_attributes_of_a_dict_are_dropped():
    value = asm.ordered_dict({"a": 1})
    assert read(asm.assemble(value)) == {"a": 1}


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_lists_and_tuples_that_contain_themselves(protocol):
    inner: list = []
    value = (inner,)
    inner.append(value)
    result = read(pickle.dumps(value, protocol))
    assert result[0][0] is result


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_records_keep_what_an_instance_holds(protocol):
    point = Point(1, [2])
    name = f"{Point.__module__}.{Point.__qualname__}"
    result = read(pickle.dumps([point, point], protocol), {name: record_of(name)})
    assert result[0] is result[1]
    assert (result[0].class_name, result[0].state) == (name, {"x": 1, "y": [2]})


class Point:
    def __init__(self, x, y):
        self.x, self.y = x, y


def test_the_stream_is_left_behind_the_pickle():
    data = io.BytesIO(b"__" + pickle.dumps([1], 4) + pickle.dumps("next", 2) + b"rest")
    data.seek(2)
    assert read_pickle(data, {}) == [1]
    assert read_pickle(data, {}) == "next"
    assert data.read() == b"rest"


def test_objects_outside_the_pickle():
    data = asm.assemble([asm.persistent(("storage", 7))])
    assert read(data, load=lambda identifier: identifier[1] + 1) == [8]
    with pytest.raises(PickleError, match="refers to objects outside itself"):
        read(data)


HOSTILE = {
    "os.system": asm.call("os.system", "echo bad > marker"),
    "posix.system": asm.call("posix.system", "echo bad > marker"),
    "builtins.eval": asm.call("builtins.eval", "open('marker', 'w')"),
    "builtins.exec": asm.call("builtins.exec", "open('marker', 'w')"),
    "__builtin__.eval": asm.call("__builtin__.eval", "open('marker', 'w')"),
    "builtins.getattr": asm.call("builtins.getattr", asm.mention("os"), "system"),
    "builtins.open": asm.call("builtins.open", "marker", "w"),
    "builtins.__import__": asm.call("builtins.__import__", "os"),
    "subprocess.Popen": asm.call("subprocess.Popen", ["touch", "marker"]),
    "operator.attrgetter": asm.call("operator.attrgetter", "__class__"),
    "functools.partial": asm.call("functools.partial", asm.mention("os.system"), "ls"),
    "importlib.import_module": asm.call("importlib.import_module", "os"),
    "numpy.load": asm.call("numpy.load", "marker"),
    "torch.load": asm.call("torch.load", "marker"),
    "copyreg._reconstructor": asm.call("copyreg._reconstructor", asm.mention("os._Environ")),
    # A dotted attribute of a class that is allowed.
    "collections.OrderedDict.__init__.__globals__": asm.Code(
        b"\x8c\x0bcollections\x8c\x20OrderedDict.__init__.__globals__\x93"
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_names_that_are_not_on_the_list_are_neither_imported_nor_called(
    name, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    inside = asm.assemble({"a": [(asm.call("collections.OrderedDict"), HOSTILE[name])]})
    for data in (asm.assemble(HOSTILE[name]), inside):
        with pytest.raises(UnknownNameError, match="is not on the list of what it may use"):
            read(data)
    assert not os.listdir(tmp_path)


def test_the_error_names_the_global():
    with pytest.raises(UnknownNameError, match=r"asks for builtins\.eval, which is not"):
        read(asm.assemble({"a": asm.call("builtins.eval", "1")}))


def test_the_error_names_the_global_that_an_instance_of_protocol_0_asks_for():
    with pytest.raises(
        PickleError, match=r"INST of pickle is not allowed \(it asks for os\.system"
    ):
        read(b"\x80\x02(K\x01ios\nsystem\n.")


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_an_object_that_reduces_to_a_call_is_refused(protocol):
    class Bad:
        def __reduce__(self):
            return builtins.exec, ("raise SystemExit",)

    with pytest.raises(UnknownNameError, match=r"(builtins|__builtin__)\.exec"):
        read(pickle.dumps([Bad()], protocol))


MALFORMED = {
    "call of a number": b"K\x01)R.",
    "call of a rebuilt object": asm.call("argparse.Namespace") + b")R.",
    "call with a list": asm.mention("collections.OrderedDict") + b"]R.",
    "state of a number": b"K\x01}b.",
    "state of a mentioned class": asm.with_state(asm.mention("collections.OrderedDict"), {}) + b".",
    "slots of a mentioned class": asm.with_state(
        asm.mention("collections.OrderedDict"), (None, {"__module__": "os"})
    )
    + b".",
    "append to a dict": b"}K\x01a.",
    "item of a list": b"]K\x01K\x02s.",
    "items of a record": asm.call("argparse.Namespace") + b"(K\x01K\x02u.",
    "odd number of items": b"}(K\x01u.",
    "empty stack": b"a.",
    "nothing to return": b".",
    "tuple of too little": b"K\x01\x86.",
    "no mark": b"t.",
    "object that was never made": b"h\x07.",
    "name that is not text": b"K\x01K\x02\x93.",
    "unhashable key": b"}]K\x01s.",
    "registered extension": b"\x82\x01.",
    "instance of protocol 0": b"(ios\nsystem\n.",
    "arguments by keyword": asm.mention("collections.OrderedDict") + b")}\x92.",
    "buffer outside the pickle": b"\x97.",
    "string of protocol 0": b"S'a'\n.",
    "unknown instruction": b"\xff.",
    "too many arguments": asm.call("collections.OrderedDict", [("a", 1)]) + b".",
    "set of a text": asm.call("builtins.set", "abc") + b".",
    "call of a factory": asm.call("builtins.list") + b".",
    "number of 2**31 bytes": b"\x8b\x00\x00\x00\x7f.",
    "text that is not UTF-8": b"X\x01\x00\x00\x00\xff.",
}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_pickles_are_refused(name):
    with pytest.raises(PickleError):
        read(b"\x80\x02" + MALFORMED[name])


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_every_truncation_is_noticed(protocol):
    value = {"a": [1, 2.5, "text", b"bytes", 2**70], "b": collections.OrderedDict(c=(1, 2, 3, 4))}
    data = pickle.dumps(value, protocol)
    for length in range(len(data)):
        with pytest.raises(PickleError):
            read(data[:length])


@given(st.binary(max_size=60))
def test_noise_raises_nothing_else(noise):
    with contextlib.suppress(PickleError):
        read(b"\x80\x04" + noise)


@given(st.data())
def test_a_changed_byte_raises_nothing_else(data):
    value = {"a": [1, "text", (2, b"x")], "b": collections.OrderedDict(c=argparse.Namespace(d=1))}
    content = bytearray(pickle.dumps(value, data.draw(st.sampled_from(PROTOCOLS))))
    position = data.draw(st.integers(0, len(content) - 1))
    content[position] = data.draw(st.integers(0, 255))
    with contextlib.suppress(PickleError):
        read(bytes(content))


def test_announced_lengths_reserve_no_memory():
    for instruction in (b"B\xff\xff\xff\xff", b"\x8e" + struct.pack("<Q", 2**60)):
        with pytest.raises(PickleError, match="damaged pickle"):
            read(b"\x80\x05" + instruction + b"x.")
    with pytest.raises(PickleError, match="damaged pickle"):
        read(b"\x80\x05\x96" + struct.pack("<Q", 2**60) + b"x.")


def test_a_huge_index_into_the_memo_costs_nothing():
    assert read(b"\x80\x02]r\xff\xff\xff\xff.") == []


def test_one_string_is_not_copied_again_and_again():
    text = asm.code("x" * 1000) + b"q\x01" + asm.code("latin1") + b"q\x02" + b"00"
    encode = asm.mention("_codecs.encode") + b"h\x01h\x02\x86R"
    assert read(b"\x80\x02" + text + encode + b".") == b"x" * 1000
    with pytest.raises(PickleError, match="makes more bytes than it holds"):
        read(b"\x80\x02" + text + b"](" + encode * 100 + b"e.")


def test_deep_nesting_does_not_exhaust_the_stack():
    depth = 200_000
    with pytest.raises(PickleError, match="nested tuples as a key"):
        read(b"\x80\x02})" + b"\x85" * depth + b"K\x01s.")
    value = read(b"\x80\x02]" + b"\x85" * depth + b".")
    for _ in range(depth):
        (value,) = value
    assert value == []

"""Pickled graphs of both generations become arrays, and hostile pickles run nothing."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from equiformer_jax.data.errors import DataError
from equiformer_jax.data.readers.graph_objects import read_graph_object
from equiformer_jax.data.readers.lmdb_file import LmdbRecords
from tests import pickle_assembler as asm
from tests.data.readers import lmdb_samples as samples
from tests.paths import REAL_DATA, needs_real_data

FIELDS = samples.oc20_fields()


def read(content: bytes):
    return read_graph_object(content, "data.lmdb", 17)


@pytest.mark.parametrize("kind", samples.WRITERS)
def test_every_generation_gives_the_same_fields(kind):
    result = read(samples.WRITERS[kind](FIELDS))
    assert set(result) == set(FIELDS)  # what is None is left out
    for name, expected in FIELDS.items():
        np.testing.assert_array_equal(result[name], expected)
        if isinstance(expected, np.ndarray):
            assert (result[name].dtype, result[name].shape) == (expected.dtype, expected.shape)
            assert not result[name].flags.writeable
        else:
            assert type(result[name]) is type(expected)


def test_tensors_keep_their_strides():
    numbers = np.arange(12.0)
    content = samples.version_1({"pos": samples.tensor(numbers, (3, 4), (1, 3))})
    np.testing.assert_array_equal(read(content)["pos"], numbers.reshape(4, 3).T)


def test_a_number_of_atoms_that_was_set_by_hand():
    assert read(samples.version_1({"__num_nodes__": 5, "sid": 1})) == {"num_nodes": 5, "sid": 1}


def test_fields_may_be_text_and_numpy_scalars():
    scalar = asm.Code(pickle.dumps(np.float64(1.5), 2)[2:-1])
    result = read(samples.version_2({"y": scalar, "sid": "74_2201_35"}))
    assert result == {"y": 1.5, "sid": "74_2201_35"}


@needs_real_data
@pytest.mark.parametrize(
    ("name", "number"), [("is2re/val_20/data.lmdb", 20), ("unknown_origin_pyg2_51_slabs.lmdb", 51)]
)
def test_real_records_of_both_generations(name, number):
    records = LmdbRecords(REAL_DATA / "oc20" / name)
    assert len(records) == number
    for index in range(number):
        fields = read_graph_object(records.value(index), *records.place(index))
        assert fields["pos"].shape == (fields["natoms"], 3) and fields["pos"].dtype == np.float32
        assert fields["edge_index"].shape == (2, len(fields["cell_offsets"]))


# ------------------------------------------------------------------------------ hostile pickles


def by_instance(name: str, arguments: tuple) -> asm.Code:
    module, _, function = name.rpartition(".")
    return asm.Code(b"(" + b"".join(map(asm.code, arguments)) + f"i{module}\n{function}\n".encode())


FORMS = {
    "REDUCE": lambda name, arguments: asm.call(name, *arguments),
    "NEWOBJ": lambda name, arguments: asm.Code(asm.mention(name) + asm.code(arguments) + b"\x81"),
    "NEWOBJ_EX": lambda name, arguments: asm.Code(
        asm.mention(name) + asm.code(arguments) + asm.code({}) + b"\x92"
    ),
    "OBJ": lambda name, arguments: asm.Code(
        b"(" + asm.mention(name) + b"".join(map(asm.code, arguments)) + b"o"
    ),
    "INST": by_instance,
    "BUILD": lambda name, arguments: asm.with_state(asm.mention(name), arguments),
    "STACK_GLOBAL": lambda name, arguments: asm.Code(
        b"".join(map(asm.code, name.rpartition(".")[::2])) + b"\x93" + asm.code(arguments) + b"R"
    ),
    "mention only": lambda name, arguments: asm.mention(name),
}  # fmt: skip


def payloads(canary) -> dict[str, tuple]:
    """Names that a hostile pickle may ask for, with arguments that would create the canary."""
    python = f"open({str(canary)!r}, 'w').close()"
    return {
        "os.system": (f"touch {canary}",),
        "posix.system": (f"touch {canary}",),
        "builtins.eval": (python,),
        "builtins.exec": (python,),
        "__builtin__.eval": (python,),
        "subprocess.Popen": (["touch", str(canary)],),
        "builtins.open": (str(canary), "w"),
        "builtins.getattr": (asm.mention("os"), "system"),
        "builtins.map": (asm.mention("os.system"), [f"touch {canary}"]),
        "builtins.bytearray": (2**40,),
        "operator.methodcaller": ("system", f"touch {canary}"),
        "functools.partial": (asm.mention("os.system"), f"touch {canary}"),
        "numpy.load": (str(canary), None, True),
        "numpy.memmap": (str(canary), "uint8", "w+", 0, 10),
        "numpy.save": (str(canary), 1),
        "numpy.zeros": (2**40,),
        "numpy.testing._private.utils.runstring": (python, {}),
        "torch.load": (str(canary),),
        "torch.serialization.load": (str(canary),),
        "torch.hub.load": (str(canary), "model"),
        "torch._utils._rebuild_device_tensor_from_numpy": (1,),
        "torch_geometric.data.data.os.system": (f"touch {canary}",),
        "torch_geometric.data.batch.Batch": (),
        "pickle.loads": (b"x",),
        "shutil.rmtree": (str(canary.parent),),
        "copyreg._reconstructor": (asm.mention("os._Environ"),),
    }


def refused(content: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        read(content)
    assert str(caught.value).startswith("data.lmdb: record 17: ")
    assert len(str(caught.value)) < 600


def pattern(name: str) -> str:
    return rf"asks for {name}".replace(".", r"\.")


@pytest.mark.parametrize("form", FORMS)
def test_no_name_outside_the_list_is_used_in_any_way(form, tmp_path):
    canary = tmp_path / "canary"
    for name, arguments in payloads(canary).items():
        bad = FORMS[form](name, arguments)
        # Where the arguments come first, what they ask for is refused first.
        first = any(isinstance(argument, asm.Code) for argument in arguments) and form == "INST"
        expected = "asks for .*os" if first else pattern(name)
        refused(asm.assemble(bad), expected)
        refused(samples.version_1({"pos": bad}), expected)
        refused(samples.version_2({"pos": [({"a": bad},)]}), expected)
    assert tmp_path.exists() and not canary.exists()


@pytest.mark.parametrize("form", ["REDUCE", "INST", "OBJ", "STACK_GLOBAL"])
def test_the_hostile_pickles_would_run(form, tmp_path):
    canary = tmp_path / "canary"
    bad = asm.assemble(FORMS[form]("os.system", payloads(canary)["os.system"]))
    pickle.loads(bad)
    assert canary.exists()


@pytest.mark.parametrize("form", FORMS)
def test_hostile_names_inside_of_a_tensor_are_refused(form, tmp_path):
    canary = tmp_path / "canary"
    for name in ("os.system", "builtins.eval", "torch.storage._load_from_bytes"):
        bad = FORMS[form](name, payloads(canary).get(name, (b"x",)))
        refused(samples.version_1({"pos": samples.storage_bytes(asm.stream(bad))}), pattern(name))
    assert not canary.exists()


CHAINS = {
    "attribute of an allowed class": b"ccollections\nOrderedDict.__init__.__globals__\n",
    "the same by the stack": b"\x8c\x0bcollections\x8c\x14OrderedDict.__init__\x93",
    "attribute of an allowed function": b"ctorch._utils\n_rebuild_tensor_v2.__globals__\n",
    "method of the graph": b"ctorch_geometric.data.data\nData.__reduce__\n",
}


@pytest.mark.parametrize("name", CHAINS)
def test_attributes_of_allowed_names_are_out_of_reach(name):
    refused(b"\x80\x04" + CHAINS[name] + b".", r"asks for .*__, which is not on the list")


def test_attributes_cannot_be_set_on_what_is_allowed():
    hostile = {"__class__": 1, "__reduce__": 2}
    refused(asm.assemble(asm.with_state(asm.mention(samples.DATA), hostile)), "sets the state of")
    listed = asm.with_state(asm.mention("torch._utils._rebuild_tensor_v2"), hostile)
    refused(asm.assemble(listed), "sets the state of a Global")


def test_classes_that_are_only_mentioned_cannot_be_called():
    for name in ("torch_geometric.data.data.DataEdgeAttr", "torch.Tensor", "numpy.ndarray"):
        refused(asm.assemble(asm.call(name, 1)), "the pickle calls a str")


def nested(depth: int) -> asm.Code:
    return asm.Code(b"]" + b"\x85" * depth)


def huge_number(digits: int) -> asm.Code:
    return asm.Code(b"\x8b" + digits.to_bytes(4, "little") + b"\x11" * digits)


def expanded(size: tuple[int, ...]) -> asm.Code:
    return samples.tensor(np.zeros(1, np.float32), size, (0,) * len(size))


def numpy_array(type_code: str, shape: tuple[int, ...], contents: bytes) -> asm.Code:
    array = asm.call("numpy.core.multiarray._reconstruct", asm.mention("numpy.ndarray"), (0,), "b")
    dtype = asm.with_state(
        asm.call("numpy.dtype", type_code, False, True), (3, "<", None, None, None, -1, -1, 0)
    )
    return asm.with_state(array, (1, shape, dtype, False, samples.binary(contents)))


def large_storage() -> asm.Code:
    storage = asm.Storage("torch.FloatStorage", "0", b"", 2**40)
    return samples.storage_bytes(asm.stream(storage.mention(None), storage))


BOMBS = {
    "view that poses as many numbers": (expanded((10**9, 3)), "'pos': an array of 12000000000 byt"),
    "storage that is not there": (large_storage(), "larger than what follows"),
    "array that is not there": (numpy_array("f8", (2**40,), b"abc"), "needs 8796093022208 bytes"),
    "array of objects": (numpy_array("O", (1,), b"12345678"), "type 'O' is not supported"),
    "announced bytes": (asm.Code(b"\x8e" + b"\xff" * 7 + b"\x0f"), "damaged pickle"),
    "announced text": (asm.Code(b"\x8d" + b"\xff" * 7 + b"\x0f"), "damaged pickle"),
    "announced number": (asm.Code(b"\x8b\xff\xff\xff\x7f"), "damaged pickle"),
    "frame beyond the end": (asm.Code(b"\x95" + b"\xff" * 7 + b"\x0f"), "damaged pickle"),
    "nested key": (asm.Code(b"})" + b"\x85" * 200_000 + b"K\x01s"), "nested tuples as a key"),
    "unknown instruction": (asm.Code(b"\xff"), "damaged pickle"),
    "registered extension": (asm.Code(b"\x82\x01"), "EXT1 of pickle is not allowed"),
    "object outside": (asm.persistent(("storage", 1)), "refers to objects outside itself"),
    "object outside by text": (asm.Code(b"Pname\n"), "PERSID of pickle is not allowed"),
    "buffer outside": (asm.Code(b"\x97"), "NEXT_BUFFER of pickle is not allowed"),
}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_and_what_no_writer_writes_are_refused(name):
    bomb, message = BOMBS[name]
    refused(samples.version_1({"pos": bomb}), message)


def test_harmless_monsters_cost_nothing():
    doubled = asm.Code(b"]q\x010" + b"](h\x01h\x01eq\x010" * 60 + b"h\x01")  # 2**60 lists
    monsters = {"a": nested(200_000), "b": huge_number(1000), "c": doubled}
    assert set(read(samples.version_1(monsters))) == {"a", "b", "c"}


def test_every_truncation_is_noticed():
    content = samples.version_2({"pos": np.zeros((2, 3), np.float32), "sid": 1})
    read(content)
    for length in range(len(content)):
        with pytest.raises(DataError, match=r"^data.lmdb: record 17: "):
            read(content[:length])


OTHERS = {
    "list": [1, 2],
    "number": 7,
    "tensor": samples.tensor(np.zeros(3)),
    "graph without state": asm.Code(asm.mention(samples.DATA) + asm.code(()) + b"\x81"),
    "graph with a list": samples.new_object(samples.DATA, [1]),
    "storage with a list": samples.new_object(
        samples.DATA, {"_store": samples.new_object(samples.STORAGE, [1])}
    ),
    "storage without fields": samples.new_object(
        samples.DATA, {"_store": samples.new_object(samples.STORAGE, {})}
    ),
    "storage of another kind": samples.new_object(
        samples.DATA, {"_store": samples.new_object("argparse.Namespace", {"_mapping": {}})}
    ),
    "names that are numbers": {1: 2},
    "namespace": samples.new_object("argparse.Namespace", {"pos": 1}),
}


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_no_graph_is_refused(name):
    refused(asm.assemble(OTHERS[name]), "expected a pickled graph, found .* without fields")

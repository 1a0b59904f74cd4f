"""LMDB files in the layout of the Open Catalyst Project, made up and written by the tests."""

from __future__ import annotations

import pathlib
import pickle
from collections.abc import Mapping, Sequence
from typing import Any

import lmdb
import numpy as np

from tests import pickle_assembler as asm

DATA = "torch_geometric.data.data.Data"
STORAGE = "torch_geometric.data.storage.GlobalStorage"

_STORAGES = {"f4": "Float", "f8": "Double", "i8": "Long", "i4": "Int", "u1": "Byte", "b1": "Bool"}


def binary(contents: bytes) -> asm.Code:
    """Bytes as protocol 3 and later write them."""
    return asm.Code(b"B" + len(contents).to_bytes(4, "little") + contents)


def storage_bytes(contents: bytes) -> asm.Code:
    """A call of the function that PyTorch calls for the storage of a pickled tensor."""
    return asm.call("torch.storage._load_from_bytes", binary(contents))


def tensor(values: Any, size: tuple[int, ...] | None = None, stride: Any = None) -> asm.Code:
    """A tensor as PyTorch pickles it outside of its own files; another view of it if asked for."""
    array = np.ascontiguousarray(values)
    kind = f"torch.{_STORAGES[array.dtype.str[1:]]}Storage"
    storage = asm.Storage(kind, "94", array.tobytes(), array.size)
    inside = storage_bytes(asm.stream(storage.mention(None), storage))
    strides = tuple(step // array.itemsize for step in array.strides)
    return asm.tensor(inside, array.shape if size is None else size, stride or strides)


def new_object(class_name: str, state: Any) -> asm.Code:
    """An instance without arguments, and its state."""
    return asm.with_state(asm.Code(asm.mention(class_name) + asm.code(()) + b"\x81"), state)


def with_tensors(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: tensor(value) if isinstance(value, np.ndarray) else value
        for name, value in fields.items()
    }


def version_1(fields: Mapping[str, Any]) -> bytes:
    """A graph as version 1 of the graph library pickles it: its attributes are the fields."""
    empty = {"x": None, "edge_attr": None, "normal": None, "face": None}
    return asm.assemble(new_object(DATA, empty | with_tensors(fields)))


def version_2(fields: Mapping[str, Any]) -> bytes:
    """A graph as version 2 pickles it: a storage that refers back to the graph has the fields."""
    graph = asm.Code(asm.mention(DATA) + asm.code(()) + b"\x81q\x07")  # remembered as object 7
    parent = asm.Code(b"h\x07")
    storage = new_object(STORAGE, {"_mapping": with_tensors(fields), "_parent": parent})
    state = {
        "_edge_attr_cls": asm.mention("torch_geometric.data.data.DataEdgeAttr"),
        "_tensor_attr_cls": asm.mention("torch_geometric.data.data.DataTensorAttr"),
        "_store": storage,
    }
    return asm.assemble(asm.with_state(graph, state))


def dictionary(fields: Mapping[str, Any]) -> bytes:
    """The fields alone."""
    return asm.assemble(with_tensors(fields))


WRITERS = {"version 1": version_1, "version 2": version_2, "dictionary": dictionary}


def write_lmdb(
    path: pathlib.Path, values: Sequence[bytes] | Mapping[str, bytes], length: Any = None
) -> pathlib.Path:
    """Writes values under "0", "1", ... or the given keys, each in a transaction of its own."""
    items = values if isinstance(values, Mapping) else {str(i): v for i, v in enumerate(values)}
    if length is not None:
        items = {**items, "length": pickle.dumps(length, -1)}
    with lmdb.open(str(path), subdir=False, map_size=2**24, lock=False, sync=False) as environment:
        for key, value in items.items():
            with environment.begin(write=True) as transaction:
                transaction.put(key.encode(), value)
    return path


def oc20_fields(num_atoms: int = 4, seed: int = 0) -> dict[str, Any]:
    """Everything that an IS2RE record has, in the types of the published files."""
    generator = np.random.default_rng(seed)

    def vectors() -> np.ndarray:
        return generator.normal(size=(num_atoms, 3)).astype(np.float32)

    return {
        "edge_index": np.zeros((2, 3), np.int64),
        "pos": vectors(),
        "cell": np.diag([5.0, 6.0, 30.0]).astype(np.float32)[None],
        "atomic_numbers": generator.integers(1, 84, num_atoms).astype(np.float32),
        "natoms": num_atoms,
        "cell_offsets": np.zeros((3, 3), np.int64),
        "force": vectors(),
        "fixed": (np.arange(num_atoms) < 1).astype(np.float32),
        "tags": np.arange(num_atoms) % 3,
        "y_init": 1.25 + seed,
        "y_relaxed": -0.75 + seed,
        "pos_relaxed": vectors(),
        "sid": 1700380 + seed,
    }

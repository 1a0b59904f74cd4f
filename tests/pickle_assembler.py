"""Pickles and PyTorch files written instruction by instruction, honest and hostile ones."""

from __future__ import annotations

import pickle
import struct
import zipfile
from collections.abc import Mapping
from typing import Any, NamedTuple

STOP = b"."
REDUCE = b"R"
BUILD = b"b"


class Code(bytes):
    """Instructions that leave one object on the stack of whoever runs them."""


def code(value: Any) -> bytes:
    """Instructions for a value: a builtin one, or one that holds `Code` anywhere inside."""
    if isinstance(value, Code):
        return value
    if isinstance(value, tuple):
        return b"(" + b"".join(map(code, value)) + b"t"
    if isinstance(value, list):
        return b"](" + b"".join(map(code, value)) + b"e"
    if isinstance(value, dict):
        items = (code(key) + code(item) for key, item in value.items())
        return b"}(" + b"".join(items) + b"u"
    # A scalar's own pickle, without its header and its STOP.
    return pickle.dumps(value, 2)[2:-1]


def mention(name: str) -> Code:
    """The class or function of this dotted name."""
    module, _, function = name.rpartition(".")
    return Code(f"c{module}\n{function}\n".encode())


def call(name: str, *arguments: Any) -> Code:
    """The result of calling it."""
    return Code(mention(name) + code(arguments) + REDUCE)


def with_state(target: Code, state: Any) -> Code:
    """An object after its state has been set."""
    return Code(target + code(state) + BUILD)


def persistent(identifier: Any) -> Code:
    """An object outside the pickle."""
    return Code(code(identifier) + b"Q")


def ordered_dict(items: Mapping[str, Any]) -> Code:
    """An `OrderedDict`, with the attribute that PyTorch hangs on its state dicts."""
    filled = call("collections.OrderedDict") + b"(" + code(dict(items))[2:]
    return with_state(Code(filled), {"_metadata": call("collections.OrderedDict")})


def assemble(value: Any) -> bytes:
    """A whole pickle of protocol 2."""
    return b"\x80\x02" + code(value) + STOP


class Storage(NamedTuple):
    """The storage of a tensor: the class that PyTorch names, its key, its elements."""

    kind: str
    key: str
    contents: bytes
    numel: int

    def mention(self, *view: Any) -> Code:
        return persistent(("storage", mention(self.kind), self.key, "cpu", self.numel, *view))


def tensor(storage: Code, size: tuple[int, ...], stride: tuple[int, ...], offset: int = 0) -> Code:
    """A tensor as `torch.save` writes it."""
    hooks = call("collections.OrderedDict")
    return call("torch._utils._rebuild_tensor_v2", storage, offset, size, stride, False, hooks)


def write_archive(path: Any, value: Any, *storages: Storage, **entries: bytes) -> None:
    """Writes the zip format; `entries` adds others or replaces these."""
    contents = {"data.pkl": assemble(value), "byteorder": b"little", "version": b"3\n"}
    contents |= {f"data/{storage.key}": storage.contents for storage in storages} | entries
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in contents.items():
            archive.writestr(f"archive/{name}", content)


def stream(value: Any, *storages: Storage, little_endian: bool = True) -> bytes:
    """The format before PyTorch 1.6."""
    parts = [
        assemble(0x1950A86A20F9469CFC6C),
        assemble(1001),
        assemble({"protocol_version": 1001, "little_endian": little_endian}),
        assemble(value),
        assemble([storage.key for storage in storages]),
    ]
    parts += [struct.pack("<q", storage.numel) + storage.contents for storage in storages]
    return b"".join(parts)

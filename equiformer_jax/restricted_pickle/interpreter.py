"""An interpreter of pickle's instructions that runs nothing but what it is handed.

`pickletools` of the standard library decodes the instructions; this file gives each a meaning. A
class or function that the pickle names is looked up in a table of stand-ins and never imported,
instances are rebuilt by the stand-ins alone, and no method of a rebuilt object is called on the
file's behalf. What a file can make this process hold is bounded by the file's own size.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO

import numpy as np

from equiformer_jax.restricted_pickle.stand_ins import (
    Global,
    Pending,
    PickleError,
    UnknownNameError,
    checked_key,
)

# What malformed input makes the decoder, the machine and the stand-ins raise.
_SYMPTOMS = (
    ArithmeticError,
    AttributeError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
)


def read_pickle(
    stream: BinaryIO,
    allowed: Mapping[str, Any],
    persistent_load: Callable[[Any], Any] | None = None,
) -> Any:
    """Reads one pickle and leaves the stream behind its end.

    Args:
      stream: positioned at the first byte of a pickle, protocol 2 to 5.
      allowed: what the pickle may mention, by dotted name. A callable is called, with the arguments
        in the file, where the pickle calls or instantiates that name; any other value is put in
        the name's place.
      persistent_load: gives the objects that the pickle refers to by an identifier.

    Returns:
      The object: builtin containers and scalars, and whatever the stand-ins make. A dict's subclass
      comes back as a dict, without the attributes that it may have had.

    Raises:
      UnknownNameError: the pickle mentions a name that is not in `allowed`.
      PickleError: the pickle is damaged or truncated, or uses an instruction that no pickler of
        these protocols writes.
    """
    machine = _Machine(allowed, persistent_load)
    try:
        return machine.run(stream)
    except PickleError:
        raise
    except IndexError as error:
        raise PickleError("damaged pickle: it takes more than it put on its stack") from error
    except _SYMPTOMS as error:
        raise PickleError(f"damaged pickle: {error}") from error


class _Machine:
    """Stack and memo of one pickle. The methods after `run` are instructions, or parts of some."""

    def __init__(
        self, allowed: Mapping[str, Any], persistent_load: Callable[[Any], Any] | None
    ) -> None:
        self.allowed = allowed
        self.persistent_load = persistent_load
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        self.memo_of_pending: dict[int, int] = {}
        self.bytes_read = 0
        self.bytes_copied = 0

    def run(self, stream: BinaryIO) -> Any:
        start = stream.tell()
        for opcode, argument, position in pickletools.genops(stream):
            if opcode.name in _LITERALS:
                self.stack.append(argument)
                continue
            if opcode.name == "STOP":
                break
            instruction = _INSTRUCTIONS.get(opcode.name)
            if instruction is None:
                raise PickleError(_refusal(opcode.name, argument))
            self.bytes_read = (position or 0) - start
            instruction(self, argument)
        return self.stack.pop()

    def mark(self, _: Any) -> None:
        self.marks.append(len(self.stack))

    def pop(self, _: Any) -> None:
        if self.marks and self.marks[-1] == len(self.stack):
            self.marks.pop()
        else:
            self.stack.pop()

    def pop_to_mark(self, _: Any = None) -> list[Any]:
        start = self.marks.pop()
        items = self.stack[start:]
        del self.stack[start:]
        return items

    def make_tuple(self, length: int) -> None:
        if length > len(self.stack):
            raise IndexError
        start = len(self.stack) - length
        self.stack[start:] = [tuple(self.stack[start:])]

    def make_tuple_from_mark(self, _: Any) -> None:
        self.stack.append(tuple(self.pop_to_mark()))

    def make_frozenset_from_mark(self, _: Any) -> None:
        self.stack.append(frozenset(map(checked_key, self.pop_to_mark())))

    def append(self, _: Any) -> None:
        item = self.stack.pop()
        self.top(list).append(item)

    def append_all(self, _: Any) -> None:
        items = self.pop_to_mark()
        self.top(list).extend(items)

    def add_all(self, _: Any) -> None:
        items = self.pop_to_mark()
        self.top(set).update(map(checked_key, items))

    def set_item(self, _: Any) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self.top(dict)[checked_key(key)] = value

    def set_all_items(self, _: Any) -> None:
        items = self.pop_to_mark()
        target = self.top(dict)
        for key, value in zip(items[::2], items[1::2], strict=True):
            target[checked_key(key)] = value

    def top(self, kind: type) -> Any:
        """The object on top of the stack, which the instruction wants to be of this kind."""
        target = self.stack[-1]
        if type(target) is not kind:
            raise PickleError(f"the pickle treats a {type(target).__name__} as a {kind.__name__}")
        return target

    def remember(self, index: int | None) -> None:
        index = len(self.memo) if index is None else index
        value = self.stack[-1]
        self.memo[index] = value
        if isinstance(value, Pending):
            self.memo_of_pending[id(value)] = index

    def recall(self, index: int) -> None:
        if index not in self.memo:
            raise PickleError(f"damaged pickle: it refers to its object {index} before making it")
        self.stack.append(self.memo[index])

    def mention(self, name: str) -> None:
        # `pickletools` gives "module name", separated by one space.
        self.stack.append(self.look_up(name.replace(" ", ".", 1)))

    def mention_from_stack(self, _: Any) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        if not (isinstance(name, str) and isinstance(module, str)):
            raise PickleError("damaged pickle: the name of a class or function is not text")
        self.stack.append(self.look_up(f"{module}.{name}"))

    def look_up(self, name: str) -> Any:
        if name not in self.allowed:
            raise UnknownNameError(
                f"the pickle asks for {name[:200]}, which is not on the list of what it may use"
            )
        stand_in = self.allowed[name]
        return Global(name, stand_in) if callable(stand_in) else stand_in

    def call(self, _: Any) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        if not isinstance(function, Global) or not isinstance(arguments, tuple):
            kinds = f"{type(function).__name__} with a {type(arguments).__name__}"
            raise PickleError(f"the pickle calls a {kinds}")
        try:
            result = function.stand_in(*arguments)
        except _SYMPTOMS as error:
            raise PickleError(f"{function.name} in the pickle: {error}") from error
        self.count_copy(result)
        self.stack.append(result)

    def count_copy(self, result: Any) -> None:
        """Refuses a pickle that has one long string, list or array copied again and again."""
        if isinstance(result, (bytes, set)):
            self.bytes_copied += len(result)
        elif isinstance(result, np.ndarray) and result.base is None:
            self.bytes_copied += result.nbytes
        if self.bytes_copied > self.bytes_read:
            raise PickleError("the pickle makes more bytes than it holds")

    def build(self, _: Any) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        if isinstance(target, dict):
            return  # Attributes of a subclass, such as `_metadata` of PyTorch's state dicts.
        if not isinstance(target, Pending):
            raise PickleError(f"the pickle sets the state of a {type(target).__name__}")
        result = target.finish(state)
        self.stack[-1] = result
        index = self.memo_of_pending.pop(id(target), None)
        if index is not None:
            self.memo[index] = result

    def load_persistent(self, _: Any) -> None:
        identifier = self.stack.pop()
        if self.persistent_load is None:
            raise PickleError("the pickle refers to objects outside itself")
        self.stack.append(self.persistent_load(identifier))


def _refusal(instruction: str, argument: Any) -> str:
    message = f"the instruction {instruction} of pickle is not allowed"
    if instruction == "INST":  # mentions a class and calls it at once
        message += f" (it asks for {argument.replace(' ', '.', 1)[:200]})"
    return message


_LITERALS = frozenset(
    {"BININT", "BININT1", "BININT2", "LONG1", "LONG4", "BINFLOAT"}
    | {"SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"}
    | {"SHORT_BINBYTES", "BINBYTES", "BINBYTES8", "BYTEARRAY8"}
)

_INSTRUCTIONS: Mapping[str, Callable[[_Machine, Any], Any]] = {
    "PROTO": lambda machine, _: None,
    "FRAME": lambda machine, _: None,
    "NONE": lambda machine, _: machine.stack.append(None),
    "NEWTRUE": lambda machine, _: machine.stack.append(True),
    "NEWFALSE": lambda machine, _: machine.stack.append(False),
    "EMPTY_TUPLE": lambda machine, _: machine.stack.append(()),
    "EMPTY_LIST": lambda machine, _: machine.stack.append([]),
    "EMPTY_DICT": lambda machine, _: machine.stack.append({}),
    "EMPTY_SET": lambda machine, _: machine.stack.append(set()),
    "TUPLE1": lambda machine, _: machine.make_tuple(1),
    "TUPLE2": lambda machine, _: machine.make_tuple(2),
    "TUPLE3": lambda machine, _: machine.make_tuple(3),
    "TUPLE": _Machine.make_tuple_from_mark,
    "FROZENSET": _Machine.make_frozenset_from_mark,
    "MARK": _Machine.mark,
    "POP": _Machine.pop,
    "POP_MARK": _Machine.pop_to_mark,
    "APPEND": _Machine.append,
    "APPENDS": _Machine.append_all,
    "ADDITEMS": _Machine.add_all,
    "SETITEM": _Machine.set_item,
    "SETITEMS": _Machine.set_all_items,
    "BINPUT": _Machine.remember,
    "LONG_BINPUT": _Machine.remember,
    "MEMOIZE": _Machine.remember,
    "BINGET": _Machine.recall,
    "LONG_BINGET": _Machine.recall,
    "GLOBAL": _Machine.mention,
    "STACK_GLOBAL": _Machine.mention_from_stack,
    "REDUCE": _Machine.call,
    "NEWOBJ": _Machine.call,
    "BUILD": _Machine.build,
    "BINPERSID": _Machine.load_persistent,
}

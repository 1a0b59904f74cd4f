"""What an interpreted pickle is made of: mentions, records, and stand-ins for Python's containers.

A stand-in is called with arguments from the file. It must check their types before it looks inside,
and print nothing of unknown size.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

StandIn = Callable[..., Any]
"""What is called in place of a class or function that a pickle names."""


class PickleError(ValueError):
    """A pickle is damaged, or asks for something that it is not allowed."""


class UnknownNameError(PickleError):
    """A pickle mentions a class or function that is not on the list of what it may use."""


@dataclasses.dataclass(frozen=True)
class Global:
    """The mention of a class or function in a pickle, inert until an instruction calls it.

    Attributes:
      name: dotted name in the file, such as `collections.OrderedDict`.
      stand_in: what is called instead.
    """

    name: str
    stand_in: StandIn


class Pending:
    """An object that a pickle makes in two steps: first from arguments, then from a state."""

    def finish(self, state: Any) -> Any:
        """Returns what takes this object's place once its `state` is known."""
        raise NotImplementedError


@dataclasses.dataclass(eq=False)
class Record(Pending):
    """The contents of an instance of a class that is not loaded.

    Attributes:
      class_name: dotted name of the class in the file.
      arguments: those that its constructor would have got.
      state: usually the dict of its attributes; None where the file gives none.
    """

    class_name: str
    arguments: tuple[Any, ...] = ()
    state: Any = None

    def finish(self, state: Any) -> Record:
        """Keeps `state` as it is."""
        self.state = state
        return self


def record_of(class_name: str) -> StandIn:
    """Returns a stand-in that keeps the contents of instances of `class_name` in a `Record`."""
    return lambda *arguments: Record(class_name, arguments)


def checked_key(key: Any) -> Any:
    """Returns a key of a dict or set, unless it is a tuple of tuples.

    Hashing deeply nested tuples exhausts the C stack and would end the process.

    Raises:
      PickleError: it is one.
    """
    if isinstance(key, tuple) and any(isinstance(part, tuple) for part in key):
        raise PickleError("nested tuples as a key")
    return key


def _ordered_dict() -> dict[Any, Any]:
    return {}  # The pickler fills ordered and default dicts by further instructions.


def _default_dict(_: Any = None) -> dict[Any, Any]:
    return {}


def _counter(counts: dict[Any, int]) -> dict[Any, int]:
    return counts


def _set(items: list[Any]) -> set[Any]:
    if not isinstance(items, list):
        raise PickleError(f"a set made from a {type(items).__name__}")
    return set(map(checked_key, items))


CONTAINERS: Mapping[str, Any] = {
    "argparse.Namespace": record_of("argparse.Namespace"),
    "collections.Counter": _counter,
    "collections.OrderedDict": _ordered_dict,
    "collections.defaultdict": _default_dict,
    # Protocol 2 writes Python 2's name of the builtins. All but sets occur as factories only.
    **{
        f"{module}.{name}": stand_in
        for module in ("builtins", "__builtin__")
        for name, stand_in in {
            "set": _set,
            "dict": f"{module}.dict",
            "list": f"{module}.list",
            "int": f"{module}.int",
            "float": f"{module}.float",
        }.items()
    },
}
"""Stand-ins for the containers of the standard library."""

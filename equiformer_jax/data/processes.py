"""What the processes of a run on several hosts tell each other, beside what their devices do.

Every function here is to be called by all processes, in the same order, unless it says otherwise.
With one process they cost nothing.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

from equiformer_jax.data.portable_errors import portable

Value = TypeVar("Value")

# What goes over the wires at once: of one size, so that the program that does it is compiled once.
_BYTES_AT_ONCE = 2**20


def is_first_process() -> bool:
    """Whether this process writes and prints for all; can be asked at any time."""
    return jax.process_index() == 0


def exchange(value: Value) -> list[Value]:
    """The values of all processes, in their order.

    Args:
      value: of this process; it can be pickled.
    """
    count = jax.process_count()
    if count == 1:
        return [value]
    content = np.frombuffer(pickle.dumps(value), np.uint8)
    lengths = multihost_utils.process_allgather(np.int32(len(content)))
    parts: list[list[np.ndarray]] = [[] for _ in range(count)]
    for first in range(0, int(lengths.max()), _BYTES_AT_ONCE):
        own = content[first : first + _BYTES_AT_ONCE]
        padded = np.pad(own, (0, _BYTES_AT_ONCE - len(own)))
        for part, row in zip(parts, multihost_utils.process_allgather(padded), strict=True):
            part.append(row)
    return [
        pickle.loads(np.concatenate(part)[:length].tobytes())
        for part, length in zip(parts, lengths, strict=True)
    ]


def decided_by_first(decide: Callable[[], Value]) -> Value:
    """What the first process finds out, for all; the others do not call `decide`.

    Raises:
      Exception: whatever `decide` raises, in all processes.
    """
    if jax.process_count() == 1:
        return decide()
    found: Any = None
    own_error: Exception | None = None
    if is_first_process():
        found, own_error = _attempt(decide)
    found, error = exchange((found, own_error and portable(own_error)))[0]
    if error is not None:
        raise own_error or error
    return found


def all_succeed(work: Callable[[], Value]) -> Value:
    """What `work` returns in this process, once it has ended well in all of them.

    Raises:
      Exception: what `work` raises here; else, what it raises in the first process in which it
        fails.
    """
    if jax.process_count() == 1:
        return work()
    found, own_error = _attempt(work)
    errors = exchange(own_error and portable(own_error))
    error = own_error or next(filter(None, errors), None)
    if error is not None:
        raise error
    return found


def require_same(values: Mapping[str, Any]) -> None:
    """Makes sure that all processes have the same values.

    Args:
      values: by name.

    Raises:
      ValueError: a process has other ones than the first; names them.
    """
    of_all = exchange(dict(values))
    for process, theirs in enumerate(of_all):
        names = of_all[0].keys() | theirs.keys()
        lines = [
            f"{name}: process 0 has {of_all[0].get(name)!r}, process {process} {theirs.get(name)!r}"
            for name in sorted(names)
            if of_all[0].get(name) != theirs.get(name)
        ]
        if lines:
            raise ValueError("all processes of a run need the same:\n  " + "\n  ".join(lines))


def _attempt(work: Callable[[], Value]) -> tuple[Any, Exception | None]:
    """The value or the error of some work."""
    try:
        return work(), None
    except Exception as error:
        return None, error

"""How often the loops of a compiled program run.

`jax.lax.scan` and loops over a range become `while` instructions that count up by one to a constant
limit. Where XLA says itself how often a loop runs, that is taken; where the counting up is fused
with other work and cannot be read, it is by one.
"""

from __future__ import annotations

import re

from experiments.tpu.hlo import Computation, Instruction, Program

_PASSED_ON = ("bitcast", "copy", "copy-done", "copy-start")


def trip_count(program: Program, computation: Computation, loop: Instruction) -> int:
    """How often the body of a `while` instruction runs.

    Args:
      program: the compiled program.
      computation: that the loop stands in.
      loop: the instruction.

    Raises:
      ValueError: it does not count up by one from a constant to a constant; names the loop.
    """
    if known := re.search(r'"known_trip_count":\{"n":"(\d+)"', loop.attributes):
        return int(known[1])
    (condition,), (body,) = loop.called["condition"], loop.called["body"]
    index, limit = _compared(program.computations[condition], loop)
    start = _constant(computation, _element(computation, loop.operands[0], index))
    step = _increment(program.computations[body], index)
    if start is None or step not in (1, None):
        raise _unreadable(loop)
    return max(limit - start, 0)


def _compared(condition: Computation, loop: Instruction) -> tuple[int, int]:
    """Which element of the loop's tuple counts, and up to where."""
    root = condition.root
    if root.opcode != "compare" or root.attribute("direction") != "LT":
        raise _unreadable(loop)
    counter, limit = condition.operands_of(root)
    bound = _constant(condition, limit)
    if counter.opcode != "get-tuple-element" or bound is None:
        raise _unreadable(loop)
    return int(counter.attribute("index") or 0), bound


def _increment(body: Computation, index: int) -> int | None:
    """By how much the counter grows; None where that is not an addition of its own."""
    counter = _resolve(body, _element(body, body.root.name, index))
    if counter.opcode != "add":
        return None
    found = [_constant(body, operand) for operand in body.operands_of(counter)]
    return next((value for value in found if value is not None), None)


def _element(computation: Computation, name: str, index: int) -> Instruction:
    """An element of a tuple, or the tuple itself where it is not put together here."""
    line = computation.instructions[name]
    return computation.operands_of(line)[index] if line.opcode == "tuple" else line


def _resolve(computation: Computation, line: Instruction) -> Instruction:
    while line.opcode in _PASSED_ON:
        line = computation.operands_of(line)[0]
    return line


def _constant(computation: Computation, line: Instruction) -> int | None:
    line = _resolve(computation, line)
    is_number = line.opcode == "constant" and line.content.lstrip("-").isdigit()
    return int(line.content) if is_number else None


def _unreadable(loop: Instruction) -> ValueError:
    return ValueError(
        f"cannot tell how often the loop %{loop.name} ({loop.source}) runs: expected one that "
        "counts up by one between constants, as jax.lax.scan makes"
    )

"""What must not be in a training step for TPUs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from equiformer_jax.training.mesh_settings import MeshSettings
from experiments.tpu.collectives import Collective
from experiments.tpu.hlo import Instruction, Program

_DOUBLE = ("f64", "c128")
_HOST_TARGETS = ("callback", "MoveToDevice", "MoveToHost", "annotate_device_placement")
_HOST_MEMORY = 5
_GATHERS = ("all-gather", "all-to-all", "collective-broadcast", "ragged-all-to-all")
_SUMS = ("all-reduce", "reduce-scatter")
_BYTES_OF_COUNTS = 2**16  # sums and counts of a loss and its metrics: a few hundred bytes


def check_traced(jaxpr: Any) -> list[str]:
    """Operations on float64 numbers in a traced step, before XLA takes them apart.

    Args:
      jaxpr: of the step.

    Returns:
      One line for each; empty where there are none.
    """
    problems = []
    for equation in _equations(jaxpr):
        types = {getattr(value.aval, "dtype", None) for value in equation.outvars}
        if any(_is_double(dtype) for dtype in types):
            where = str(equation.source_info.name_stack) or "the step itself"
            problems.append(f"float64: {equation.primitive.name} in {where}")
    return problems


def check_program(program: Program) -> list[str]:
    """What must not be in any compiled step.

    Args:
      program: the step.

    Returns:
      One line for each operation on float64 numbers and each exchange with the host; empty where
      all is well.
    """
    problems = []
    for line in program:
        where = f"%{line.name} = {line.opcode}" + (f" in {line.source}" if line.source else "")
        if any(shape.dtype in _DOUBLE for shape in line.shapes):
            problems.append(f"float64: {where}")
        if _talks_to_host(line):
            problems.append(f"host transfer: {where}")
    return problems


def check_collectives(
    collectives: Sequence[Collective], parameter_bytes: int, settings: MeshSettings
) -> list[str]:
    """Collectives that bring an array from all chips to all, where nothing asks for them.

    They are a sign that the partitioner could not follow how arrays are divided. A gathering of
    small slices may be compiled to a sum, too; so both have a bound.

    Args:
      collectives: of the step.
      parameter_bytes: of all parameters.
      settings: how the chips share the step. The gradient is summed over all of them. Where they
        divide the state of the optimizer, the parameters are gathered, too; where they divide
        edges, sums over the edges of a node have no bound here.

    Returns:
      One line for each; empty while they are within what is allowed.
    """
    gathered = parameter_bytes if settings.shard_optimizer else 0
    bounds: list[tuple[Sequence[str], int]] = [(_GATHERS, gathered)]
    if settings.edge_parts == 1:
        bounds.append((_SUMS, parameter_bytes + gathered + _BYTES_OF_COUNTS))
    return [line for kinds, allowed in bounds for line in _beyond(collectives, kinds, allowed)]


def _beyond(collectives: Sequence[Collective], kinds: Sequence[str], allowed: int) -> list[str]:
    """All collectives of these kinds, if together they bring more bytes than are allowed."""
    found = [collective for collective in collectives if collective.kind in kinds]
    if sum(each.times * each.payload for each in found) <= allowed:
        return []
    return [
        f"unexpected {each.kind}: %{each.name} of {each.payload:,} bytes, "
        f"{each.times} times" + (f" in {each.source}" if each.source else "")
        for each in found
    ]


def _talks_to_host(line: Instruction) -> bool:
    if line.opcode.removesuffix("-done") in ("send", "recv"):
        return line.attribute("is_host_transfer") == "true"
    if line.opcode in ("infeed", "outfeed"):
        return True
    if line.opcode == "custom-call":
        target = line.attribute("custom_call_target") or ""
        return any(name in target for name in _HOST_TARGETS)
    return any(shape.space == _HOST_MEMORY for shape in line.shapes)


def _equations(jaxpr: Any) -> Iterator[Any]:
    for equation in jaxpr.eqns:
        yield equation
        for value in equation.params.values():
            for candidate in value if isinstance(value, tuple | list) else (value,):
                inner = getattr(candidate, "jaxpr", candidate)
                if hasattr(inner, "eqns"):
                    yield from _equations(inner)


def _is_double(dtype: Any) -> bool:
    return dtype in (np.dtype(np.float64), np.dtype(np.complex128))

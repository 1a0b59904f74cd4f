"""Counts the multiplications of a traced program; XLA counts the body of a loop only once."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import jax


def count_matrix_flops(function: Callable[..., Any], *arguments: Any) -> float:
    """Floating-point operations of all matrix products, those in loops as often as they run.

    Args:
      function: to trace, jitted or not.
      *arguments: of the function.

    Returns:
      Two for each multiplication and addition, over all devices.
    """
    return _flops(jax.make_jaxpr(function)(*arguments).jaxpr)


def _flops(jaxpr: Any) -> float:
    return sum(_flops_of(equation) for equation in jaxpr.eqns)


def _flops_of(equation: Any) -> float:
    name, parameters = equation.primitive.name, equation.params
    if name == "dot_general":
        (contracted, _), _ = parameters["dimension_numbers"]
        shape = equation.invars[0].aval.shape
        result = math.prod(equation.outvars[0].aval.shape)
        return 2.0 * result * math.prod(shape[axis] for axis in contracted)
    repetitions = parameters.get("length", 1) if name == "scan" else 1
    if name == "shard_map":
        repetitions = parameters["mesh"].size
    return repetitions * sum(map(_flops, _inner_jaxprs(parameters)))


def _inner_jaxprs(parameters: dict[str, Any]) -> Iterator[Any]:
    for value in parameters.values():
        for candidate in value if isinstance(value, tuple | list) else (value,):
            inner = getattr(candidate, "jaxpr", candidate)
            if hasattr(inner, "eqns"):
                yield inner

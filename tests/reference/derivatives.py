"""Derivatives of the reference model without any code of its own for them.

First derivatives use a complex step, `Im f(x + i h v) / h`, which subtracts nothing and so is exact
to rounding for every h small enough. A second, mixed derivative adds a central difference of sixth
order of such first derivatives. Neither shares anything with automatic differentiation.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from tests.reference.model import Inputs, ModelConfig, forward
from tests.reference.parameters import Scope

Arrays = dict[str, np.ndarray]

COMPLEX_STEP = 1e-30
DIFFERENCE_STEP = 5e-4
BUFFERS = ("rbf.means", "rbf.betas")


def outputs(config: ModelConfig, parameters: Arrays, inputs: Inputs) -> Arrays:
    """`forward` with a plain dictionary of parameters."""
    return forward(config, Scope(dict(parameters)), inputs)


def displaced(inputs: Inputs, displacement: np.ndarray) -> Inputs:
    """The same edges at other positions (real or complex)."""
    return dataclasses.replace(inputs, positions=inputs.positions + displacement)


def shifted(parameters: Arrays, direction: Arrays, step: complex) -> Arrays:
    """`parameters + step * direction`; names without a direction stay."""
    return {
        name: value + step * direction[name] if name in direction else value
        for name, value in parameters.items()
    }


def sixth_order_difference(function: Callable[[float], np.ndarray], step: float) -> np.ndarray:
    """Derivative of `function` at 0 from six values, error of order `step^6`."""
    weights = {1: 45 / 60, 2: -9 / 60, 3: 1 / 60}
    terms = [w * (function(k * step) - function(-k * step)) for k, w in weights.items()]
    return sum(terms) / step


def force_along(
    config: ModelConfig, parameters: Arrays, inputs: Inputs, direction: np.ndarray
) -> float:
    """`sum_i F_i . u_i` for a direction `u` `[N, 3]`: minus the slope of the summed energy."""
    moved = displaced(inputs, 1j * COMPLEX_STEP * direction)
    return -outputs(config, parameters, moved)["energy"].sum().imag / COMPLEX_STEP


def forces(config: ModelConfig, parameters: Arrays, inputs: Inputs) -> np.ndarray:
    """Minus the gradient of the summed energy, `[N, 3]`, one evaluation per coordinate."""
    result = np.zeros(inputs.positions.shape)
    for index in np.ndindex(*result.shape):
        direction = np.zeros(result.shape)
        direction[index] = 1.0
        result[index] = force_along(config, parameters, inputs, direction)
    return result


def output_slopes(
    config: ModelConfig, parameters: Arrays, inputs: Inputs, direction: Arrays
) -> Arrays:
    """Derivative of every output along a direction in parameter space."""
    moved = shifted(parameters, direction, 1j * COMPLEX_STEP)
    result = outputs(config, moved, inputs)
    return {name: value.imag / COMPLEX_STEP for name, value in result.items()}


def force_slope(
    config: ModelConfig,
    parameters: Arrays,
    inputs: Inputs,
    direction: Arrays,
    along: np.ndarray,
    step: float = DIFFERENCE_STEP,
) -> float:
    """Derivative of `sum_i F_i . u_i` along a direction in parameter space, with `u = along`.

    The step is the largest distance by which an atom moves, in units of the difference formula.
    """
    moved = shifted(parameters, direction, 1j * COMPLEX_STEP)
    length = np.linalg.norm(along, axis=-1).max()

    def energy_slope(distance: float) -> np.ndarray:
        result = outputs(config, moved, displaced(inputs, distance * along / length))
        return result["energy"].sum().imag / COMPLEX_STEP

    return float(-length * sixth_order_difference(energy_slope, step))

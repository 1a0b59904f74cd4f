"""Scaled activations and the gate (SPEC §3.1, §3.2)."""

from __future__ import annotations

import numpy as np

from tests.reference.irreps import Irreps, Segment, copies, join, simplify, split

SILU_SCALE = 1.6791767923989418
SIGMOID_SCALE = 1.8467055342154763
SMOOTH_LEAKY_RELU_SCALE = 1.531320475574866


def sigmoid(x: np.ndarray) -> np.ndarray:
    """`1 / (1 + exp(-x))`."""
    return 1 / (1 + np.exp(-x))


def silu(x: np.ndarray) -> np.ndarray:
    """`x sigmoid(x)`, as inside the radial networks."""
    return x * sigmoid(x)


def smooth_leaky_relu(x: np.ndarray, slope: float = 0.2) -> np.ndarray:
    """`(1+a)/2 x + (1-a)/2 x (2 sigmoid(x) - 1)`."""
    return (1 + slope) / 2 * x + (1 - slope) / 2 * x * (2 * sigmoid(x) - 1)


def scaled_silu(x: np.ndarray) -> np.ndarray:
    """SiLU with unit second moment under a standard normal."""
    return SILU_SCALE * silu(x)


def scaled_sigmoid(x: np.ndarray) -> np.ndarray:
    """Sigmoid with unit second moment under a standard normal."""
    return SIGMOID_SCALE * sigmoid(x)


def scaled_smooth_leaky_relu(x: np.ndarray) -> np.ndarray:
    """Smooth leaky ReLU with unit second moment under a standard normal."""
    return SMOOTH_LEAKY_RELU_SCALE * smooth_leaky_relu(x)


def _scalars_and_gated(irreps: Irreps) -> tuple[Irreps, Irreps]:
    scalars = tuple(segment for segment in irreps if segment.is_scalar)
    gated = tuple(segment for segment in irreps if not segment.is_scalar)
    return scalars, gated


def gate_input(irreps: Irreps) -> Irreps:
    """The irreps that a gate needs to give `irreps`: scalars, one gate per other copy, the rest."""
    scalars, gated = _scalars_and_gated(irreps)
    gates = (Segment(copies(gated), 0, 1),) if gated else ()
    return simplify(scalars + gates + gated)


def gate(rows: np.ndarray, irreps: Irreps) -> np.ndarray:
    """From rows of `gate_input(irreps)` to rows of `irreps`, scalars first.

    Scalars pass a scaled SiLU; the i-th other copy is multiplied by the scaled sigmoid of gate i.
    """
    scalars, gated = _scalars_and_gated(irreps)
    gate_count = copies(gated)
    scalar_count = copies(scalars)
    parts = [scaled_silu(rows[..., :scalar_count, None])]
    gates = scaled_sigmoid(rows[..., scalar_count : scalar_count + gate_count])
    start = 0
    rest = split(rows[..., scalar_count + gate_count :], gated)
    for segment, features in zip(gated, rest, strict=True):
        parts.append(features * gates[..., start : start + segment.multiplicity, None])
        start += segment.multiplicity
    return join(parts)

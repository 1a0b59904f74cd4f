"""Activations scaled to unit second moment, and the gate (specification sections 3.1 and 3.2)."""

from __future__ import annotations

import e3nn_jax as e3nn
import jax

from equiformer_jax.ops.irreps import Features, alive_segment, split_gate, split_last_axis

# The official library estimated <f(z)^2>^(-1/2) from one million fixed normal samples. A trained
# checkpoint contains these very numbers, so the exact integrals would be wrong here.
SILU_SCALE = 1.6791767923989418
SIGMOID_SCALE = 1.8467055342154763
SMOOTH_LEAKY_RELU_SCALE = 1.531320475574866


def scaled_silu(x: jax.Array) -> jax.Array:
    """SiLU with unit second moment."""
    return SILU_SCALE * jax.nn.silu(x)


def scaled_sigmoid(x: jax.Array) -> jax.Array:
    """Logistic function with unit second moment."""
    return SIGMOID_SCALE * jax.nn.sigmoid(x)


def scaled_smooth_leaky_relu(x: jax.Array, slope: float = 0.2) -> jax.Array:
    """`slope x + (1 - slope) x sigma(x)` with unit second moment (for the slope of 0.2)."""
    return SMOOTH_LEAKY_RELU_SCALE * (slope * x + (1 - slope) * x * jax.nn.sigmoid(x))


def gate_factors(scalars: jax.Array, num_scalars: int) -> tuple[jax.Array, jax.Array]:
    """Splits `[..., scalars + gates]` and activates both: SiLU on scalars, sigmoid on gates."""
    kept, gates = split_last_axis(scalars, (num_scalars, scalars.shape[-1] - num_scalars))
    return scaled_silu(kept), scaled_sigmoid(gates)


def gate(features: Features, irreps: e3nn.Irreps) -> Features:
    """Gated nonlinearity: every copy of what is not an even scalar is scaled by a gate of its own.

    The i-th gate belongs to the i-th such copy.

    Args:
      features: segments of `gate_input(irreps)`: `[..., 1, scalars + gates]`, then the gated ones
        `[..., 2l+1, mul]` (`None` where dead).
      irreps: irreps of the result.

    Returns:
      The segments of `irreps`.

    Raises:
      ValueError: the segment of scalars and gates is dead.
    """
    num_scalars, _, gated = split_gate(irreps)
    scalars, gates = gate_factors(alive_segment(features, 0), num_scalars)
    of_segments = split_last_axis(gates, [mul for mul, _ in gated])
    scaled = (
        None if x is None else x * own for x, own in zip(features[1:], of_segments, strict=True)
    )
    return (scalars, *scaled)

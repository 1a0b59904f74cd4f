"""Radial basis functions of the distance, and the optional smooth cutoff (specification section 4).

The smooth cutoff is this package's own; the published model has none.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

# The official Gaussian basis contains this literal; a checkpoint trained with it wants it.
OFFICIAL_PI = 3.14159


def gaussian_basis(
    distance: jax.Array,
    mean: jax.Array,
    std: jax.Array,
    weight: jax.Array,
    bias: jax.Array,
    cutoff: float,
) -> jax.Array:
    """Learned Gaussians of the scaled distance, without an envelope.

    Args:
      distance: `[E]` in angstrom.
      mean: `[K]` centers.
      std: `[K]` widths; their absolute value plus 1e-5 is used.
      weight: `[]` scale of the distance.
      bias: `[]` offset of the distance.
      cutoff: in angstrom.

    Returns:
      `[E, K]`.
    """
    width = jnp.abs(std) + 1e-5
    scaled = (weight * distance / cutoff + bias)[:, None]
    return jnp.exp(-0.5 * ((scaled - mean) / width) ** 2) / ((2 * OFFICIAL_PI) ** 0.5 * width)


def exponential_centers(number: int, cutoff: float) -> tuple[np.ndarray, float]:
    """Centers `[K]` and the inverse squared width of `exponential_basis`, in float64."""
    start = np.exp(-cutoff)
    return np.linspace(start, 1.0, number), float((2 / number * (1 - start)) ** -2)


def exponential_basis(distance: jax.Array, number: int, cutoff: float) -> jax.Array:
    """Gaussians of `exp(-5 d / cutoff)` under a cosine envelope; nothing is learned.

    Args:
      distance: `[E]` in angstrom.
      number: K, the number of functions.
      cutoff: in angstrom.

    Returns:
      `[E, K]`.
    """
    centers, beta = exponential_centers(number, cutoff)
    envelope = jnp.where(distance < cutoff, 0.5 * (jnp.cos(jnp.pi * distance / cutoff) + 1), 0)
    decay = jnp.exp(-5.0 / cutoff * distance)[:, None]
    return envelope[:, None] * jnp.exp(-beta * (decay - jnp.asarray(centers, distance.dtype)) ** 2)


def bessel_basis(distance: jax.Array, frequencies: jax.Array, cutoff: float) -> jax.Array:
    """Spherical Bessel functions of order 0 under a polynomial envelope (p = 5).

    Args:
      distance: `[E]` in angstrom, above zero.
      frequencies: `[K]`, learned, multiples of pi at the start.
      cutoff: in angstrom.

    Returns:
      `[E, K]`.
    """
    scaled = distance / cutoff
    envelope = jnp.where(scaled < 1, 1 - 21 * scaled**5 + 35 * scaled**6 - 15 * scaled**7, 0)
    radial = (2 / cutoff**3) ** 0.5 * envelope / scaled
    return radial[:, None] * jnp.sin(frequencies * scaled[:, None])


def log_smooth_envelope(distance: jax.Array, cutoff: float) -> jax.Array:
    """Logarithm of a polynomial from 1 to 0 whose first two derivatives vanish at the cutoff.

    `(1 - x)^3 (1 + 3 x + 6 x^2) = 1 - 10 x^3 + 15 x^4 - 6 x^5` with `x = d / cutoff`. The logarithm
    has derivatives that stay finite in float32 where those of the inverse polynomial overflow.

    Args:
      distance: `[E]` in angstrom.
      cutoff: in angstrom.

    Returns:
      `[E]`; 0 at and beyond the cutoff, where the caller has to drop the edge.
    """
    # The difference is exact just below the cutoff, where the quotient may round to 1.
    remaining = jnp.where(distance < cutoff, cutoff - distance, cutoff) / cutoff
    x = 1 - remaining
    return 3 * jnp.log(remaining) + jnp.log1p(3 * x + 6 * x**2)

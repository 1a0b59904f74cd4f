"""Radial basis and the networks that turn it into tensor-product weights."""

from __future__ import annotations

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from equiformer_jax.ops.radial import bessel_basis, exponential_basis, gaussian_basis


def _uniform(low: float, high: float) -> nn.initializers.Initializer:
    def init(key: jax.Array, shape: tuple[int, ...], dtype: jnp.dtype | None = None) -> jax.Array:
        return jax.random.uniform(key, shape, float if dtype is None else dtype, low, high)

    return init


def _multiples_of_pi(
    key: jax.Array, shape: tuple[int, ...], dtype: jnp.dtype | None = None
) -> jax.Array:
    return jnp.pi * jnp.arange(1, shape[0] + 1, dtype=dtype)


class RadialBasis(nn.Module):
    """Radial basis functions of the distance (specification section 4).

    Attributes:
      basis_type: `gaussian`, `exp` or `bessel`.
      number: number of functions.
      cutoff: in angstrom.
    """

    basis_type: str
    number: int
    cutoff: float

    @nn.compact
    def __call__(self, distance: jax.Array) -> jax.Array:
        """Returns `[E, number]` for distances `[E]` in angstrom."""
        if self.basis_type == "exp":
            return exponential_basis(distance, self.number, self.cutoff)
        if self.basis_type == "bessel":
            frequencies = self.param("frequencies", _multiples_of_pi, (self.number,))
            return bessel_basis(distance, frequencies, self.cutoff)
        if self.basis_type == "gaussian":
            mean = self.param("mean", _uniform(0.0, 1.0), (self.number,))
            std = self.param("std", _uniform(1.0 / self.number, 1.0), (self.number,))
            weight = self.param("weight", nn.initializers.ones, ())
            bias = self.param("bias", nn.initializers.zeros, ())
            return gaussian_basis(distance, mean, std, weight, bias, self.cutoff)
        raise ValueError(f"basis_type is {self.basis_type!r}; expected gaussian, exp or bessel")


class RadialOutput(NamedTuple):
    """The last layer of a radial network, not yet applied.

    Its input is far smaller than its output.

    Attributes:
      hidden: `[E, width]`.
      kernel: `[width, weights]`.
      offset: `[weights]`.
    """

    hidden: jax.Array
    kernel: jax.Array
    offset: jax.Array

    def per_edge(self) -> jax.Array:
        """The weights of every edge, `[E, weights]`."""
        return self.hidden @ self.kernel.astype(self.hidden.dtype) + self.offset.astype(
            self.hidden.dtype
        )


class RadialNetwork(nn.Module):
    """Weights of a tensor product from invariants of the edge (specification section 2.4).

    Attributes:
      hidden_widths: widths of the hidden layers.
      num_weights: number of tensor-product weights.
    """

    hidden_widths: tuple[int, ...]
    num_weights: int

    @nn.compact
    def __call__(self, edge_scalars: jax.Array) -> RadialOutput:
        """Reads `[E, invariants]`."""
        x = edge_scalars
        for index, width in enumerate(self.hidden_widths):
            x = _Dense(width, name=f"dense_{index}")(x)
            x = jax.nn.silu(_LayerNorm(name=f"norm_{index}")(x))
        bound = x.shape[-1] ** -0.5
        kernel = self.param("kernel", _uniform(-bound, bound), (x.shape[-1], self.num_weights))
        offset = self.param("offset", _uniform(-bound, bound), (self.num_weights,))
        return RadialOutput(x, kernel, offset)


class _Dense(nn.Module):
    """A linear layer with the initial distribution of the official one."""

    width: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        bound = x.shape[-1] ** -0.5
        kernel = self.param("kernel", _uniform(-bound, bound), (x.shape[-1], self.width))
        bias = self.param("bias", nn.initializers.zeros, (self.width,))
        return x @ kernel.astype(x.dtype) + bias.astype(x.dtype)


class _LayerNorm(nn.Module):
    """Layer norm with statistics of at least float32."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        scale = self.param("scale", nn.initializers.ones, (x.shape[-1],))
        bias = self.param("bias", nn.initializers.zeros, (x.shape[-1],))
        wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        centered = wide - jnp.mean(wide, axis=-1, keepdims=True)
        variance = jnp.mean(centered**2, axis=-1, keepdims=True)
        return (centered * jax.lax.rsqrt(variance + 1e-5) * scale + bias).astype(x.dtype)

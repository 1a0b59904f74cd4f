"""Sums and counts, which become means only when every part has been added."""

from __future__ import annotations

import flax.struct
import jax
import jax.numpy as jnp

MILLI = 1000.0


@flax.struct.dataclass
class Mean:
    """A mean that is not divided yet.

    Attributes:
      total: scalar, sum over the entries that count.
      count: scalar, how many they are.
    """

    total: jax.Array
    count: jax.Array

    def __add__(self, other: Mean) -> Mean:
        return Mean(self.total + other.total, self.count + other.count)

    @property
    def value(self) -> jax.Array:
        """The mean; 0 where nothing counts."""
        return self.total / jnp.maximum(self.count, 1)

    def times(self, factor: float) -> Mean:
        """The same mean in another unit."""
        return Mean(factor * self.total, self.count)


def masked_mean(values: jax.Array, mask: jax.Array) -> Mean:
    """Sum and count of the rows of `values` that `mask` keeps.

    Args:
      values: `[n, ...]`; values that do not count must be finite, or be zeroed before any function
        with a gradient is applied to them.
      mask: `[n]` bool.
    """
    total = jnp.sum(jnp.where(rows(mask, values), values, 0))
    per_row = values.size // values.shape[0]
    return Mean(total, jnp.sum(mask) * per_row)


def rows(mask: jax.Array, values: jax.Array) -> jax.Array:
    """A mask `[n]` with as many axes as the `values` `[n, ...]` whose rows it tells apart."""
    return mask.reshape(mask.shape + (1,) * (values.ndim - 1))

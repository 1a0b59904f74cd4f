"""Dropout that keeps equivariance (specification sections 6 and 6.4)."""

from __future__ import annotations

import e3nn_jax as e3nn
import jax
import jax.numpy as jnp

from equiformer_jax.ops.irreps import Features


def keep_factors(
    key: jax.Array, rate: float, shape: tuple[int, ...], dtype: jnp.dtype
) -> jax.Array:
    """0 with probability `rate`, else `1 / (1 - rate)`."""
    return jax.random.bernoulli(key, 1 - rate, shape).astype(dtype) / (1 - rate)


def equivariant_dropout(
    key: jax.Array, features: Features, irreps: e3nn.Irreps, rate: float, scalars_only: bool = False
) -> Features:
    """One draw per irrep copy and node, so that all components live or die together.

    Args:
      key: random key.
      features: segments `[N, 2l+1, mul]`, `None` where dead.
      irreps: their irreps.
      rate: probability of zero.
      scalars_only: leave everything but even scalars alone.
    """
    outputs: list[jax.Array | None] = []
    for index, (x, (_, ir)) in enumerate(zip(features, irreps, strict=True)):
        if x is None or (scalars_only and ir != e3nn.Irrep("0e")):
            outputs.append(x)
            continue
        shape = (*x.shape[:-2], 1, x.shape[-1])
        outputs.append(x * keep_factors(jax.random.fold_in(key, index), rate, shape, x.dtype))
    return tuple(outputs)


def drop_path(
    key: jax.Array, features: Features, rate: float, graph_index: jax.Array, num_graphs: int
) -> Features:
    """Stochastic depth: drops a whole branch, one draw per graph.

    Args:
      key: random key.
      features: segments `[N, 2l+1, mul]` of the branch, `None` where dead.
      rate: probability of dropping.
      graph_index: `[N]`, the graph of each node.
      num_graphs: number of graphs.
    """
    dtype = next(x.dtype for x in features if x is not None)
    factors = keep_factors(key, rate, (num_graphs,), dtype)[graph_index][:, None, None]
    return tuple(None if x is None else x * factors for x in features)

"""Equivariant normalizations (specification sections 3.3 and 3.4).

Every function takes features, the irreps, and flat parameters over irrep copies: `affine_weight`
for all copies in order, `affine_bias` for the even scalars. Statistics are never taken below
float32.
"""

from __future__ import annotations

from collections.abc import Callable

import e3nn_jax as e3nn
import jax
import jax.numpy as jnp

from equiformer_jax.ops.irreps import Features
from equiformer_jax.ops.segment import gather_to_edges, mean_to_graphs

EPSILON = 1e-5


def layer_norm(
    features: Features,
    irreps: e3nn.Irreps,
    affine_weight: jax.Array,
    affine_bias: jax.Array,
    *,
    center_all: bool = False,
    mean_shift: jax.Array | None = None,
) -> Features:
    """Normalizes each segment of each node by its own statistics.

    Even scalars are centered over channels; everything is divided by the root mean square, then
    scaled and shifted.

    Args:
      features: segments `[N, 2l+1, mul]`, `None` where dead.
      irreps: their irreps.
      affine_weight: `[copies]`.
      affine_bias: `[even scalars]`.
      center_all: subtract the mean over channels for every degree (the official V3).
      mean_shift: `[copies]`, a learned factor on that mean (V4); needs `center_all`.
    """

    def center(x: jax.Array, ir: e3nn.Irrep, copies: slice) -> jax.Array:
        if not center_all and not _is_even_scalar(ir):
            return x
        mean = jnp.mean(x, axis=-1, keepdims=True)
        return x - (mean if mean_shift is None else mean * mean_shift[copies])

    def mean_square(x: jax.Array) -> jax.Array:
        return jnp.mean(x**2, axis=(-2, -1), keepdims=True)

    return _normalize(features, irreps, affine_weight, affine_bias, center, mean_square)


def graph_norm(
    features: Features,
    irreps: e3nn.Irreps,
    affine_weight: jax.Array,
    affine_bias: jax.Array,
    graph_index: jax.Array,
    num_graphs: int,
    mean_shift: jax.Array | None = None,
) -> Features:
    """Normalizes by statistics per graph and channel instead of per node.

    This is the `instance` norm, and with a mean shift the `graph` norm.

    Args:
      features: segments `[N, 2l+1, mul]`, `None` where dead.
      irreps: their irreps.
      affine_weight: `[copies]`.
      affine_bias: `[even scalars]`.
      graph_index: `[N]`, the graph of each node.
      num_graphs: number of graphs.
      mean_shift: `[even scalars]`, a learned factor on the subtracted mean.
    """

    def pool(x: jax.Array) -> jax.Array:
        return gather_to_edges(mean_to_graphs(x, graph_index, num_graphs), graph_index)

    def center(x: jax.Array, ir: e3nn.Irrep, copies: slice) -> jax.Array:
        if not _is_even_scalar(ir):
            return x
        return x - pool(x) * (1 if mean_shift is None else mean_shift)

    def mean_square(x: jax.Array) -> jax.Array:
        return pool(jnp.mean(x**2, axis=-2, keepdims=True))

    return _normalize(features, irreps, affine_weight, affine_bias, center, mean_square)


def _is_even_scalar(ir: e3nn.Irrep) -> bool:
    return ir.l == 0 and ir.p == 1


def _normalize(
    features: Features,
    irreps: e3nn.Irreps,
    affine_weight: jax.Array,
    affine_bias: jax.Array,
    center: Callable[[jax.Array, e3nn.Irrep, slice], jax.Array],
    mean_square: Callable[[jax.Array], jax.Array],
) -> Features:
    outputs: list[jax.Array | None] = []
    start = 0
    for x, (mul, ir) in zip(features, irreps, strict=True):
        copies = slice(start, start + mul)
        start += mul
        if x is None:
            outputs.append(None)
            continue
        x = center(x.astype(jnp.promote_types(x.dtype, jnp.float32)), ir, copies)
        x = x * jax.lax.rsqrt(mean_square(x) + EPSILON) * affine_weight[copies]
        outputs.append(x + affine_bias if _is_even_scalar(ir) else x)
    return tuple(outputs)

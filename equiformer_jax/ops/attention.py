"""Attention over the neighbors of every node (specification section 6).

The softmax is never written out per edge: numerators and denominator are summed together and
divided at the nodes, which is the same sum with one pass over the edges less.
"""

from __future__ import annotations

import dataclasses
import functools
import operator
from collections.abc import Sequence

import e3nn_jax as e3nn
import jax
import jax.numpy as jnp

from equiformer_jax.ops.activations import scaled_smooth_leaky_relu
from equiformer_jax.ops.irreps import (
    Features,
    concatenate_components,
    split_components,
    split_last_axis,
)
from equiformer_jax.ops.segment import gather_to_edges, max_to_nodes, sum_to_nodes


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=("senders", "receivers", "valid", "log_envelope"),
    meta_fields=("axis",),
)
@dataclasses.dataclass(frozen=True)
class EdgeList:
    """What attention needs to know about `E` edges besides features.

    Attributes:
      senders: `[E]`, the neighbors.
      receivers: `[E]`, the centers, ascending.
      valid: `[E]` bool; an edge that is not valid sends nothing.
      log_envelope: `[E]` logarithms of factors that vanish at the cutoff; `None` in the published
        model.
      axis: the mesh axis over which the edges are divided (`ops.segment`); these are the ones of
        one device then. `None`: these are all.
    """

    senders: jax.Array
    receivers: jax.Array
    valid: jax.Array
    log_envelope: jax.Array | None
    axis: str | None = None

    def strength(self, dtype: jnp.dtype) -> jax.Array:
        """How much each edge counts as a neighbor, `[E]`: 1, or its envelope, or 0 if not valid."""
        full = 1.0 if self.log_envelope is None else jnp.exp(self.log_envelope)
        return jnp.where(self.valid, full, 0).astype(dtype)


def mlp_attention_logits(scores: jax.Array, alpha_dot: jax.Array) -> jax.Array:
    """Logits from scalar features of the edge: `sum_k leaky(scores)_k alpha_dot_k` in each head.

    Args:
      scores: `[E, heads, channels]`.
      alpha_dot: `[heads, channels]`.

    Returns:
      `[E, heads]`, at least float32.
    """
    wide = jnp.promote_types(scores.dtype, jnp.float32)
    activated = scaled_smooth_leaky_relu(scores.astype(wide))
    # Not a product of matrices: those would want the heads in front, and copy to have them there.
    return jnp.sum(activated * alpha_dot.astype(wide), axis=-1)


def dot_product_logits(queries: Sequence[jax.Array], keys: Sequence[jax.Array]) -> jax.Array:
    """`sum_i q_i k_i` in each head.

    Args:
      queries: segments `[E, 2l+1, heads, channels]` at the receivers of the edges, scaled.
      keys: segments of the same shapes.

    Returns:
      `[E, heads]`.
    """
    wide = jnp.promote_types(keys[0].dtype, jnp.float32)
    products = [
        jnp.einsum("eihc,eihc->eh", q, k, preferred_element_type=wide)
        for q, k in zip(queries, keys, strict=True)
    ]
    return functools.reduce(operator.add, products)


def scale_queries(queries: Features, irreps: e3nn.Irreps, copies_per_head: int) -> Features:
    """Divides by the square roots of the number of irrep copies in a head and of `2l+1`."""
    return tuple(
        x / (copies_per_head * ir.dim) ** 0.5 for x, (_, ir) in zip(queries, irreps, strict=True)
    )


def attend(
    logits: jax.Array,
    values: Features,
    irreps: e3nn.Irreps,
    edges: EdgeList,
    num_nodes: int,
    keep: jax.Array | None = None,
) -> Features:
    """Softmax of the logits over the edges of each receiver, and the weighted sum of the values.

    A node without valid edges receives zeros.

    Args:
      logits: `[E, heads]`, at least float32.
      values: segments `[E, 2l+1, heads * channels]`, head-major channels, `None` where dead.
      irreps: their irreps.
      edges: senders, receivers and validity.
      num_nodes: number of nodes.
      keep: dropout factors `[E, heads]` on the normalized weights, or `None`.

    Returns:
      Segments `[N, 2l+1, heads * channels]`.
    """
    heads = logits.shape[1]
    weights = _unnormalized_weights(logits, edges, num_nodes)
    alive = [(x, segment) for x, segment in zip(values, irreps, strict=True) if x is not None]
    factors = weights if keep is None else weights * keep
    if edges.log_envelope is not None:
        factors = factors * edges.strength(factors.dtype)[:, None]
    scaled = [_scale_heads(x.astype(logits.dtype), factors) for x, _ in alive]
    summed = sum_to_nodes(
        jnp.concatenate([concatenate_components(scaled), weights], axis=-1),
        edges.receivers,
        num_nodes,
        edges.axis,
    )
    # Without edges the sum is 0, and derivatives of 1 / 1e-16 overflow: divide by 1 instead.
    flat, denominator = split_last_axis(summed, (summed.shape[1] - heads, heads))
    inverse = 1 / (jnp.where(denominator > 0, denominator, 1) + 1e-16)
    totals = split_components(flat, e3nn.Irreps([segment for _, segment in alive]))
    normalized = iter([_scale_heads(x, inverse) for x in totals])
    return tuple(None if x is None else next(normalized) for x in values)


def _unnormalized_weights(logits: jax.Array, edges: EdgeList, num_nodes: int) -> jax.Array:
    """`exp(logit - max)`, zero for invalid edges.

    The subtracted maximum cancels, so it carries no gradient. An envelope enters as its logarithm:
    the largest weight of every node is 1 however small the envelopes are, and nothing overflows.
    """
    mask = edges.valid[:, None]
    if edges.log_envelope is not None:
        logits = logits + edges.log_envelope[:, None]
    masked = jax.lax.stop_gradient(jnp.where(mask, logits, -jnp.inf))
    highest = max_to_nodes(masked, edges.receivers, num_nodes, edges.axis)
    highest = jnp.where(jnp.isneginf(highest), 0, highest)
    shifted = logits - gather_to_edges(highest, edges.receivers)
    return jnp.where(mask, jnp.exp(jnp.where(mask, shifted, 0)), 0)


def _scale_heads(x: jax.Array, factors: jax.Array) -> jax.Array:
    """Multiplies `[..., 2l+1, heads * channels]` by one factor `[..., heads]` per head."""
    heads = factors.shape[-1]
    split = x.reshape(*x.shape[:-1], heads, -1)
    return (split * factors[..., None, :, None]).reshape(x.shape)

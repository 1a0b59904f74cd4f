"""Equivariant graph attention (specification section 6): parameters here, mathematics in `ops`."""

from __future__ import annotations

import dataclasses

import e3nn_jax as e3nn
import flax.linen as nn
import jax
import jax.numpy as jnp

from equiformer_jax.nn.context import EdgeFrames, GraphContext
from equiformer_jax.nn.edge_blocks import map_edge_blocks
from equiformer_jax.nn.linear import EquivariantLinear
from equiformer_jax.nn.message import (
    DotProductMessage,
    LinearMessage,
    Message,
    MessageIrreps,
    NonlinearMessage,
)
from equiformer_jax.ops.attention import attend, scale_queries
from equiformer_jax.ops.dropout import equivariant_dropout, keep_factors
from equiformer_jax.ops.heads import heads_to_library_order, library_order_to_heads
from equiformer_jax.ops.irreps import (
    AliveFeatures,
    Features,
    alive,
    concatenate_components,
    repeat_irreps,
    split_components,
)
from equiformer_jax.ops.segment import gather_to_edges, num_parts, own_part, sum_to_nodes
from equiformer_jax.ops.tensor_product import align

# The official dot-product attention divides a rescaled degree by QM9's average, on every data set.
DOT_PRODUCT_DEGREE = 15.57930850982666


@dataclasses.dataclass(frozen=True)
class AttentionSettings:
    """What all attentions of a model share; the fields are those of `EquiformerConfig`."""

    irreps_sh: str
    irreps_head: str
    irreps_pre_attn: str | None
    num_heads: int
    fc_neurons: tuple[int, ...]
    attention: str = "mlp"
    nonlinear_message: bool = True
    rescale_degree: bool = False
    alpha_drop: float = 0.0
    proj_drop: float = 0.0
    compute_dtype: str | None = None
    edge_block_size: int | None = None


class GraphAttention(nn.Module):
    """Attention of every node over its neighbors.

    Attributes:
      settings: what all attentions of a model share.
      irreps_in: irreps of the node features.
      irreps_out: irreps of the result.
      alive: irreps of the result that somebody reads, the others are `None`; all if not given.
      deterministic: no dropout.
    """

    settings: AttentionSettings
    irreps_in: str
    irreps_out: str
    alive: tuple[str, ...] | None = None
    deterministic: bool = True

    @nn.compact
    def __call__(self, features: Features, context: GraphContext) -> Features:
        """Maps segments `[N, 2l+1, mul]` of `irreps_in` to those of `irreps_out`."""
        settings, irreps = self.settings, self._message_irreps()
        num_nodes = context.graph_index.shape[0]
        is_dot_product = settings.attention == "dot_product"

        inputs = alive(features)
        dtype = jnp.dtype(settings.compute_dtype or inputs[0].dtype)
        inputs = tuple(x.astype(dtype) for x in inputs)
        queries = (self._queries(inputs, context),) if is_dot_product else ()
        logits, values = map_edge_blocks(
            _send,
            self._message_class()(irreps, settings.fc_neurons, name="message"),
            (self._merge_ends(inputs, context), context.frames, *queries),
            settings.edge_block_size,
        )

        logits = logits.astype(jnp.promote_types(dtype, jnp.float32))
        keep = self._keep(logits, context.edges.axis)
        totals = attend(logits, values, irreps.values, context.edges, num_nodes, keep)
        if settings.rescale_degree:
            totals = _rescale(
                totals, context, num_nodes, DOT_PRODUCT_DEGREE if is_dot_product else 1.0
            )
        if is_dot_product:
            totals = heads_to_library_order(totals, irreps.values)
        output = EquivariantLinear(str(irreps.values), self.irreps_out, name="projection")(totals)
        if settings.proj_drop and not self.deterministic:
            targets = e3nn.Irreps(self.irreps_out)
            output = equivariant_dropout(
                self.make_rng("dropout"), output, targets, settings.proj_drop
            )
        return output

    def _message_class(self) -> type[Message]:
        if self.settings.attention == "dot_product":
            return DotProductMessage
        return NonlinearMessage if self.settings.nonlinear_message else LinearMessage

    def _message_irreps(self) -> MessageIrreps:
        settings = self.settings
        alive = {str(ir) for _, ir in e3nn.Irreps(self.irreps_out)}
        if self.alive is not None:
            alive &= set(self.alive)
        message = settings.irreps_pre_attn or self.irreps_in
        return MessageIrreps(
            message, settings.irreps_sh, settings.irreps_head, settings.num_heads, frozenset(alive)
        )

    def _merge_ends(self, features: AliveFeatures, context: GraphContext) -> jax.Array:
        """Sums projections of both ends of each edge (step 1): components side by side, `[E, C]`.

        The sum is taken in at least float32, and so are the sums over edges that are its derivative
        by what the nodes hold.
        """
        message = self.settings.irreps_pre_attn or self.irreps_in
        source = EquivariantLinear(self.irreps_in, message, name="source")(features)
        target = EquivariantLinear(self.irreps_in, message, use_bias=False, name="target")(features)
        at_edges = gather_to_edges(_in_one_row(source), context.edges.senders)
        at_edges += gather_to_edges(_in_one_row(target), context.edges.receivers)
        return at_edges.astype(features[0].dtype)

    def _queries(self, features: AliveFeatures, context: GraphContext) -> jax.Array:
        """Scaled queries of the receivers (section 6.2): components side by side, `[E, C]`."""
        settings = self.settings
        irreps = repeat_irreps(settings.irreps_head, settings.num_heads)
        queries = EquivariantLinear(self.irreps_in, str(irreps), name="query")(features)
        queries = library_order_to_heads(queries, irreps)
        queries = scale_queries(queries, irreps, e3nn.Irreps(settings.irreps_head).num_irreps)
        at_edges = gather_to_edges(_in_one_row(queries), context.edges.receivers)
        return at_edges.astype(features[0].dtype)

    def _keep(self, logits: jax.Array, axis: str | None) -> jax.Array | None:
        """Dropout factors of the attention weights: those of all edges, if they are divided."""
        rate = self.settings.alpha_drop
        if self.deterministic or not rate:
            return None
        shape = (num_parts(axis) * logits.shape[0], logits.shape[1])
        return own_part(keep_factors(self.make_rng("dropout"), rate, shape, logits.dtype), axis)


def _send(
    message: Message, edges: tuple[jax.Array, EdgeFrames, *tuple[jax.Array, ...]]
) -> tuple[jax.Array, Features]:
    """Logits and values of edges: both ends merged, what else is known, and their queries."""
    merged, frames, *queries = edges
    irreps, values = e3nn.Irreps(message.irreps.message), message.irreps.values
    aligned = align(split_components(merged, irreps), irreps, frames.matrices)
    return message(aligned, frames, *(split_components(query, values) for query in queries))


def _in_one_row(features: Features) -> jax.Array:
    """All components of each node side by side, in at least float32."""
    row = concatenate_components(alive(features))
    return row.astype(jnp.promote_types(row.dtype, jnp.float32))


def _rescale(features: Features, context: GraphContext, num_nodes: int, average: float) -> Features:
    """Multiplies by the number of neighbors over `average`."""
    edges = context.edges
    dtype = next(x.dtype for x in features if x is not None)
    degree = sum_to_nodes(edges.strength(dtype), edges.receivers, num_nodes, edges.axis)
    degree = (degree / average)[:, None, None]
    return tuple(None if x is None else x * degree for x in features)

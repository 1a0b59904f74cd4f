"""Graph attention with learned (MLP) or dot-product logits (SPEC §6.1, §6.2)."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from tests.reference.activations import gate, gate_input, scaled_smooth_leaky_relu
from tests.reference.irreps import (
    Irreps,
    Segment,
    copies,
    join,
    scalar_copies,
    simplify,
    sort_even_first,
    sort_odd_first,
    split,
)
from tests.reference.parameters import Scope
from tests.reference.radial import radial_network
from tests.reference.tensor_products import (
    depthwise_irreps,
    depthwise_tensor_product,
    depthwise_weight_count,
    linear,
)

AVERAGE_DEGREE_QM9 = 15.57930850982666


class Edges(NamedTuple):
    """What the layers see of the edges.

    Attributes:
      senders: `[E]`, the neighbors.
      receivers: `[E]`, the centers, where the edges of one softmax end.
      harmonics: `[E, row]` spherical harmonics of the edge vectors.
      irreps: of `harmonics`.
      scalars: `[E, K]` input of the radial networks.
    """

    senders: np.ndarray
    receivers: np.ndarray
    harmonics: np.ndarray
    irreps: Irreps
    scalars: np.ndarray


class AttentionConfig(NamedTuple):
    """Hyper-parameters of one attention layer, named as in the configuration of a model."""

    irreps_head: Irreps
    irreps_pre_attn: Irreps
    num_heads: int
    fc_neurons: tuple[int, ...]
    nonlinear_message: bool = True
    rescale_degree: bool = False


def sum_over_edges(values: np.ndarray, receivers: np.ndarray, num_nodes: int) -> np.ndarray:
    """Sum of `[E, ...]` over the edges that end at each node."""
    total = np.zeros((num_nodes, *values.shape[1:]), values.dtype)
    np.add.at(total, receivers, values)
    return total


def softmax_over_edges(logits: np.ndarray, receivers: np.ndarray, num_nodes: int) -> np.ndarray:
    """Softmax of `[E, heads]` among the edges that end at the same node."""
    largest = np.full((num_nodes, *logits.shape[1:]), -np.inf)
    np.maximum.at(largest, receivers, logits.real)
    exponentials = np.exp(logits - largest[receivers])
    return exponentials / (sum_over_edges(exponentials, receivers, num_nodes) + 1e-16)[receivers]


def to_heads(rows: np.ndarray, irreps_head: Irreps, heads: int) -> np.ndarray:
    """`[E, row of all heads] -> [E, heads, row of one head]`; heads vary slowest in a segment."""
    wide = tuple(
        segment._replace(multiplicity=heads * segment.multiplicity) for segment in irreps_head
    )
    parts = [part.reshape(len(rows), heads, -1) for part in split(rows, wide)]
    return np.concatenate(parts, axis=-1)


def from_heads(rows: np.ndarray, irreps_head: Irreps) -> np.ndarray:
    """Inverse of `to_heads`."""
    parts = split(rows, irreps_head)
    return np.concatenate([part.reshape(len(rows), -1) for part in parts], axis=-1)


def radial_depthwise(
    scope: Scope,
    name: str,
    rows: np.ndarray,
    edges: Edges,
    irreps: Irreps,
    keep: Irreps,
    hidden: tuple,
) -> np.ndarray:
    """Depthwise product with the harmonics whose weights the radial network `name` gives."""
    count = depthwise_weight_count(irreps, edges.irreps, keep)
    weights = radial_network(scope.child(name), edges.scalars, hidden, count)
    return depthwise_tensor_product(rows, edges.harmonics, weights, irreps, edges.irreps, keep)


def shared_depthwise_linear(
    scope: Scope, rows: np.ndarray, edges: Edges, irreps: Irreps, irreps_out: Irreps
) -> np.ndarray:
    """Depthwise product with learned weights common to all edges, then a linear map (SPEC §2.5)."""
    count = depthwise_weight_count(irreps, edges.irreps, irreps_out)
    weights = scope.child("dtp").array("tp.weight", (count,), spread=1.0)
    product = depthwise_tensor_product(
        rows, edges.harmonics, weights, irreps, edges.irreps, irreps_out
    )
    product_irreps = simplify(depthwise_irreps(irreps, edges.irreps, irreps_out))
    return linear(scope.child("lin"), product, product_irreps, irreps_out)


def merge(
    scope: Scope, nodes: np.ndarray, edges: Edges, irreps: Irreps, pre_attn: Irreps
) -> np.ndarray:
    """Message of an edge: a linear map of its sender plus one (without bias) of its receiver."""
    sent = linear(scope.child("merge_src"), nodes, irreps, pre_attn)
    received = linear(scope.child("merge_dst"), nodes, irreps, pre_attn, bias=False)
    return sent[edges.senders] + received[edges.receivers]


def graph_attention(
    scope: Scope,
    config: AttentionConfig,
    nodes: np.ndarray,
    edges: Edges,
    irreps: Irreps,
    irreps_out: Irreps,
) -> np.ndarray:
    """MLP attention, `[N, row of irreps] -> [N, row of irreps_out]` (SPEC §6.1)."""
    heads, head = config.num_heads, config.irreps_head
    all_heads = simplify(sort_even_first(head * heads)[0])
    features_per_head = scalar_copies(all_heads) // heads
    message = merge(scope, nodes, edges, irreps, config.irreps_pre_attn)
    build = _nonlinear_message if config.nonlinear_message else _linear_message
    features, values = build(scope, config, message, edges, all_heads)

    query = scope.array("alpha_dot", (1, heads, features_per_head), spread=1.0)
    logits = (scaled_smooth_leaky_relu(features) * query).sum(-1)
    gathered = _attend(logits, values, edges, len(nodes))
    if config.rescale_degree:
        gathered = gathered * _degree(edges, len(nodes))
    return linear(scope.child("proj"), from_heads(gathered, head), all_heads, irreps_out)


def _nonlinear_message(
    scope: Scope, config: AttentionConfig, message: np.ndarray, edges: Edges, all_heads: Irreps
) -> tuple[np.ndarray, np.ndarray]:
    """Logit features `[E, heads, a]` and gated values `[E, heads, row]`."""
    pre_attn, heads = config.irreps_pre_attn, config.num_heads
    first = scope.child("sep_act")
    product = radial_depthwise(
        first, "dtp_rad", message, edges, pre_attn, pre_attn, config.fc_neurons
    )
    product_irreps = depthwise_irreps(pre_attn, edges.irreps, pre_attn)
    scalars = (Segment(scalar_copies(all_heads), 0, 1),)
    features = linear(scope.child("sep_alpha"), product, product_irreps, scalars)

    before_gate = gate_input(pre_attn)
    activated = gate(
        linear(first.child("lin"), product, simplify(product_irreps), before_gate), pre_attn
    )
    values = shared_depthwise_linear(
        scope.child("sep_value"), activated, edges, _gate_output(pre_attn), all_heads
    )
    return features.reshape(len(features), heads, -1), to_heads(values, config.irreps_head, heads)


def _gate_output(irreps: Irreps) -> Irreps:
    scalars = tuple(segment for segment in irreps if segment.is_scalar)
    return simplify(scalars + tuple(segment for segment in irreps if not segment.is_scalar))


def _linear_message(
    scope: Scope, config: AttentionConfig, message: np.ndarray, edges: Edges, all_heads: Irreps
) -> tuple[np.ndarray, np.ndarray]:
    """Logit features `[E, heads, a]` and values `[E, heads, row]` of one linear map."""
    pre_attn, heads = config.irreps_pre_attn, config.num_heads
    scalars = scalar_copies(all_heads)
    both = simplify((Segment(scalars, 0, 1), *all_heads))
    inner = scope.child("sep")
    product = radial_depthwise(inner, "dtp_rad", message, edges, pre_attn, both, config.fc_neurons)
    product_irreps = simplify(depthwise_irreps(pre_attn, edges.irreps, both))
    rows = linear(inner.child("lin"), product, product_irreps, both)
    per_head = simplify((Segment(scalars // heads, 0, 1), *config.irreps_head))
    split_rows = to_heads(rows, per_head, heads)
    return split_rows[..., : scalars // heads], split_rows[..., scalars // heads :]


def dot_product_attention(
    scope: Scope,
    config: AttentionConfig,
    nodes: np.ndarray,
    edges: Edges,
    irreps: Irreps,
    irreps_out: Irreps,
) -> np.ndarray:
    """Dot-product attention, `[N, row of irreps] -> [N, row of irreps_out]` (SPEC §6.2).

    As published: segments are sorted odd before even, heads are cut in the order of `irreps_head`,
    and the two agree only where each degree occurs with one parity.
    """
    heads, head, pre_attn = config.num_heads, config.irreps_head, config.irreps_pre_attn
    all_heads = simplify(sort_odd_first(head * heads)[0])
    keys_and_values = simplify(sort_odd_first(head * (2 * heads))[0])
    query_rows = linear(scope.child("query"), nodes, irreps, all_heads)
    query = to_heads(query_rows, head, heads) * _query_scale(head)

    message = merge(scope, nodes, edges, irreps, pre_attn)
    inner = scope.child("key_value")
    product = radial_depthwise(
        inner, "dtp_rad", message, edges, pre_attn, keys_and_values, config.fc_neurons
    )
    product_irreps = simplify(depthwise_irreps(pre_attn, edges.irreps, keys_and_values))
    pairs = to_heads(
        linear(inner.child("lin"), product, product_irreps, keys_and_values), head, 2 * heads
    )
    keys, values = pairs[:, :heads], pairs[:, heads:]

    logits = (query[edges.receivers] * keys).sum(-1)
    gathered = _attend(logits, values, edges, len(nodes))
    if config.rescale_degree:
        gathered = gathered * _degree(edges, len(nodes)) / AVERAGE_DEGREE_QM9
    return linear(scope.child("proj"), from_heads(gathered, head), all_heads, irreps_out)


def _query_scale(irreps_head: Irreps) -> np.ndarray:
    """One factor per entry of a head's row: `1 / sqrt(copies in a head) / sqrt(2l+1)`."""
    parts = [
        np.full((segment.multiplicity, segment.dimension), 1 / math.sqrt(segment.dimension))
        for segment in irreps_head
    ]
    return join(parts) / math.sqrt(copies(irreps_head))


def _attend(logits: np.ndarray, values: np.ndarray, edges: Edges, num_nodes: int) -> np.ndarray:
    weights = softmax_over_edges(logits, edges.receivers, num_nodes)
    return sum_over_edges(weights[..., None] * values, edges.receivers, num_nodes)


def _degree(edges: Edges, num_nodes: int) -> np.ndarray:
    return np.bincount(edges.receivers, minlength=num_nodes)[:, None, None]

"""Feed-forward network and transformer block (SPEC §6, §6.3)."""

from __future__ import annotations

import numpy as np

from tests.reference.activations import gate, gate_input
from tests.reference.attention import (
    AttentionConfig,
    Edges,
    dot_product_attention,
    graph_attention,
)
from tests.reference.irreps import Irreps
from tests.reference.norms import equivariant_norm
from tests.reference.parameters import Scope
from tests.reference.tensor_products import linear


def feed_forward(
    scope: Scope, nodes: np.ndarray, irreps: Irreps, irreps_mid: Irreps, irreps_out: Irreps
) -> np.ndarray:
    """Linear map, gate, linear map; `[N, row of irreps] -> [N, row of irreps_out]`."""
    hidden = linear(scope.child("fctp_1"), nodes, irreps, gate_input(irreps_mid))
    return linear(scope.child("fctp_2"), gate(hidden, irreps_mid), irreps_mid, irreps_out)


def transformer_block(
    scope: Scope,
    attention: str,
    config: AttentionConfig,
    norm_layer: str,
    nodes: np.ndarray,
    edges: Edges,
    graph_index: np.ndarray,
    irreps: Irreps,
    irreps_mid: Irreps,
    irreps_out: Irreps,
) -> np.ndarray:
    """Pre-norm attention and feed-forward network, both residual, `[N, row of irreps_out]`.

    Args:
      scope: `norm_1`, `ga` or `dpa`, `norm_2`, `ffn`, and `ffn_shortcut` where the irreps change.
      attention: `mlp` or `dot_product`.
      config: hyper-parameters of the attention.
      norm_layer: kind of both norms.
      nodes: `[N, row of irreps]`.
      edges: senders, receivers, harmonics and scalars.
      graph_index: `[N]`, the graph of each node.
      irreps: of the nodes.
      irreps_mid: inside the feed-forward network.
      irreps_out: of the result; the last block of a model changes the irreps.
    """
    normed = equivariant_norm(scope.child("norm_1"), norm_layer, nodes, irreps, graph_index)
    if attention == "mlp":
        attended = graph_attention(scope.child("ga"), config, normed, edges, irreps, irreps)
    elif attention == "dot_product":
        attended = dot_product_attention(scope.child("dpa"), config, normed, edges, irreps, irreps)
    else:
        raise ValueError(f"attention {attention!r}: expected mlp or dot_product")
    nodes = nodes + attended

    normed = equivariant_norm(scope.child("norm_2"), norm_layer, nodes, irreps, graph_index)
    update = feed_forward(scope.child("ffn"), normed, irreps, irreps_mid, irreps_out)
    if irreps != irreps_out:
        nodes = linear(scope.child("ffn_shortcut"), nodes, irreps, irreps_out)
    return nodes + update

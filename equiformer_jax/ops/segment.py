"""From nodes to edges, from edges to nodes, from nodes to graphs.

This is the only place where that happens. Edges come as lists, sorted by receiver. Another layout
would change this file and no other.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp


def gather_to_edges(nodes: jax.Array, index: jax.Array) -> jax.Array:
    """Node values `[N, ...]` at the senders or receivers of edges: `[E, ...]`."""
    return nodes[index]


def sum_to_nodes(edges: jax.Array, receivers: jax.Array, num_nodes: int) -> jax.Array:
    """Sum of edge values `[E, ...]` over the edges of each receiver: `[N, ...]`."""
    return jax.ops.segment_sum(edges, receivers, num_nodes, indices_are_sorted=True)


def max_to_nodes(edges: jax.Array, receivers: jax.Array, num_nodes: int) -> jax.Array:
    """Maximum over the edges of each receiver, minus infinity without any: `[N, ...]`."""
    return jax.ops.segment_max(edges, receivers, num_nodes, indices_are_sorted=True)


def sum_to_graphs(nodes: jax.Array, graph_index: jax.Array, num_graphs: int) -> jax.Array:
    """Sum of node values `[N, ...]` over the nodes of each graph: `[G, ...]`."""
    return jax.ops.segment_sum(nodes, graph_index, num_graphs, indices_are_sorted=True)


def mean_to_graphs(nodes: jax.Array, graph_index: jax.Array, num_graphs: int) -> jax.Array:
    """Mean over the nodes of each graph, 0 for a graph without nodes: `[G, ...]`."""
    totals = sum_to_graphs(nodes, graph_index, num_graphs)
    counts = sum_to_graphs(jnp.ones(nodes.shape[0], nodes.dtype), graph_index, num_graphs)
    return totals / jnp.maximum(counts, 1).reshape(-1, *[1] * (nodes.ndim - 1))


def graph_index_of_nodes(n_node: jax.Array, num_nodes: int) -> jax.Array:
    """The graph that each node belongs to: `[N]`, from the sizes `[G]`."""
    return jnp.repeat(jnp.arange(n_node.shape[0]), n_node, total_repeat_length=num_nodes)

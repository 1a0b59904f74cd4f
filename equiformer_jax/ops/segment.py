"""From nodes to edges, from edges to nodes, from nodes to graphs.

This is the only place where that happens. Edges come as lists, sorted by receiver. Another layout
would change this file and no other.

The edges of a system can lie divided over the devices of a mesh axis, inside `jax.shard_map`: each
device has a part of the edges and all nodes. Sums and maxima over edges are then completed over
that axis, and everything at the nodes is the same on all of its devices. Derivatives need no rule
of their own. To `jax.grad`, the devices of the axis together make one function, whose value is the
sum of what each of them returns: the transpose of a sum over the axis is the sum over the axis
(which `check_vma=False` leaves as it is). All return the same, so this sum is so many times too
large as there are devices, and the derivative by something that they all hold is their sum of
derivatives by its copies. Both together are a mean: `mean_over_parts` after every differentiation
by what is the same on all devices, first, second or higher, forward or backward.
"""

from __future__ import annotations

from typing import TypeVar

import jax
import jax.numpy as jnp

Tree = TypeVar("Tree")


def gather_to_edges(nodes: jax.Array, index: jax.Array) -> jax.Array:
    """Node values `[N, ...]` at the senders or receivers of edges: `[E, ...]`."""
    return nodes[index]


def sum_to_nodes(
    edges: jax.Array, receivers: jax.Array, num_nodes: int, axis: str | None = None
) -> jax.Array:
    """Sum of edge values `[E, ...]` over the edges of each receiver: `[N, ...]`.

    Args:
      edges: values of the edges.
      receivers: `[E]`, ascending.
      num_nodes: N.
      axis: the mesh axis over which the edges are divided, if they are.
    """
    total = jax.ops.segment_sum(edges, receivers, num_nodes, indices_are_sorted=True)
    return total if axis is None else jax.lax.psum(total, axis)


def max_to_nodes(
    edges: jax.Array, receivers: jax.Array, num_nodes: int, axis: str | None = None
) -> jax.Array:
    """Maximum over the edges of each receiver, minus infinity without any: `[N, ...]`.

    Arguments are those of `sum_to_nodes`. With an axis it has no derivative.
    """
    highest = jax.ops.segment_max(edges, receivers, num_nodes, indices_are_sorted=True)
    return highest if axis is None else jax.lax.pmax(highest, axis)


def mean_over_parts(derivatives: Tree, axis: str | None) -> Tree:
    """The derivatives of a function of divided edges, from those that each device finds.

    Args:
      derivatives: by something that is the same on all devices of the axis.
      axis: the mesh axis over which the edges are divided; `None`: they are not.
    """
    return derivatives if axis is None else jax.lax.pmean(derivatives, axis)


def own_part(edges: jax.Array, axis: str | None) -> jax.Array:
    """Of values of all edges `[parts * E, ...]`, the rows of this device's part: `[E, ...]`."""
    if axis is None:
        return edges
    rows = edges.shape[0] // jax.lax.axis_size(axis)
    return jax.lax.dynamic_slice_in_dim(edges, jax.lax.axis_index(axis) * rows, rows)


def num_parts(axis: str | None) -> int:
    """Into how many parts the edges are divided."""
    return 1 if axis is None else jax.lax.axis_size(axis)


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

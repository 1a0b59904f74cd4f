"""The edges of each part of a batch, divided over the devices of the mesh axis `edge`.

A system too large for one device is shared by several: each has all of its atoms and a part of its
edges, with everything that is computed for them (`ops.segment` says how derivatives come out). The
other axis of the mesh divides the batch, as ever.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import jraph
from jax.sharding import Mesh, PartitionSpec

from equiformer_jax.training.sharding import DATA_AXIS, EDGE_AXIS, SPLIT


def edge_axis_of(mesh: Mesh) -> str | None:
    """The axis over which edges are divided; `None` where it has one place only, or none."""
    return EDGE_AXIS if mesh.shape.get(EDGE_AXIS, 1) > 1 else None


def batch_specs(mesh: Mesh, accumulate: int = 1) -> Any:
    """How a batch is divided inside `shard_map`, for its `in_specs`.

    Args:
      mesh: the devices.
      accumulate: with more than one micro-batch, the arrays have a second axis for them.
    """
    if edge_axis_of(mesh) is None:
        return SPLIT
    leading = (DATA_AXIS,) if accumulate == 1 else (DATA_AXIS, None)
    edges = PartitionSpec(*leading, EDGE_AXIS)
    return jraph.GraphsTuple(
        nodes=SPLIT,
        edges=edges,
        receivers=edges,
        senders=edges,
        globals=SPLIT,
        n_node=SPLIT,
        n_edge=SPLIT,
    )


def with_divisible_edges(graph: jraph.GraphsTuple, mesh: Mesh) -> jraph.GraphsTuple:
    """Adds edges that send nothing, until all devices of the edge axis have equally many.

    Each joins the last receiver with itself, so edges stay sorted and the added ones have no length
    (`ops.geometry.edge_geometry`).

    Args:
      graph: arrays with leading axes for devices and micro-batches.
      mesh: the devices.
    """
    if edge_axis_of(mesh) is None:
        return graph
    axis = graph.senders.ndim - 1
    missing = -graph.senders.shape[axis] % mesh.shape[EDGE_AXIS]
    if not missing:
        return graph

    def with_zeros(leaf: jax.Array) -> jax.Array:
        widths = [(0, missing if at == axis else 0) for at in range(leaf.ndim)]
        return jnp.pad(leaf, widths)

    last = jnp.repeat(graph.receivers[..., -1:], missing, axis)
    return graph._replace(
        senders=jnp.concatenate([graph.senders, last], axis),
        receivers=jnp.concatenate([graph.receivers, last], axis),
        edges=jax.tree.map(with_zeros, graph.edges),
    )

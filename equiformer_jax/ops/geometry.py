"""Edge vectors, distances and directions that are safe to differentiate twice."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from equiformer_jax.ops.segment import gather_to_edges

# Below 0.1 mA two atoms have no direction that could be told apart from rounding.
MIN_SQUARED_DISTANCE = 1e-8


class EdgeGeometry(NamedTuple):
    """Geometry of `E` edges.

    Attributes:
      distance: `[E]` in angstrom; 1 where the edge is not valid.
      direction: `[E, 3]` unit vectors from receiver to sender; the polar axis where not valid.
      valid: `[E]` bool. Padding, and an edge whose vector is zero, has no direction and sends no
        message.
    """

    distance: jax.Array
    direction: jax.Array
    valid: jax.Array


def edge_vectors(
    positions: jax.Array,
    senders: jax.Array,
    receivers: jax.Array,
    shifts: jax.Array | None = None,
    cells: jax.Array | None = None,
) -> jax.Array:
    """`x_s - x_d + n . cell` for every edge (specification sections 1.1 and 8.2).

    Args:
      positions: `[N, 3]` in angstrom.
      senders: `[E]`, the neighbors.
      receivers: `[E]`, the centers.
      shifts: `[E, 3]` integer image offsets, for periodic systems.
      cells: `[E, 3, 3]`, the cell (rows are lattice vectors) of each edge's graph.

    Returns:
      `[E, 3]` in angstrom.
    """
    vectors = gather_to_edges(positions, senders) - gather_to_edges(positions, receivers)
    if shifts is not None and cells is not None:
        vectors = vectors + jnp.einsum("ei,eij->ej", shifts.astype(vectors.dtype), cells)
    return vectors


def edge_geometry(vectors: jax.Array) -> EdgeGeometry:
    """Distances and directions of edge vectors `[E, 3]` in angstrom.

    Invalid edges are replaced on the input side, so no derivative sees 0/0.
    """
    squared = jnp.sum(vectors**2, axis=-1)
    valid = ~(squared <= MIN_SQUARED_DISTANCE)  # a vector that is not a number must not go unseen
    polar = jnp.array([0.0, 1.0, 0.0], vectors.dtype)
    safe = jnp.where(valid[:, None], vectors, polar)
    distance = jnp.sqrt(jnp.sum(safe**2, axis=-1))
    return EdgeGeometry(distance, safe / distance[:, None], valid)

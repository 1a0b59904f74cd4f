"""A graph of a few atoms as the layers see it."""

from __future__ import annotations

import functools

import jax
import numpy as np

from equiformer_jax.nn.attention import AttentionSettings
from equiformer_jax.nn.context import GraphContext
from equiformer_jax.ops.attention import EdgeList
from equiformer_jax.ops.frames import aligning_rotation, wigner_matrices
from equiformer_jax.ops.geometry import EdgeGeometry, edge_geometry, edge_vectors

NODE = "8x0e+4x1e"
SETTINGS = AttentionSettings(
    irreps_sh="1x0e+1x1e",
    irreps_head="4x0e+2x1e",
    irreps_pre_attn=None,
    num_heads=2,
    fc_neurons=(8, 8),
)
GRAPH_INDEX = np.array([0, 0, 0, 0, 1, 1, 1])
NUM_INVARIANTS = 5


@functools.cache
def small_context() -> GraphContext:
    """Two graphs of 4 and 3 atoms, every atom a neighbor of all others of its graph."""
    rng, index = np.random.default_rng(0), np.arange(7)
    joined = (GRAPH_INDEX[:, None] == GRAPH_INDEX) & (index[:, None] != index)
    receivers, senders = np.nonzero(joined)
    geometry, matrices = _frames(edge_vectors(rng.normal(size=(7, 3)), senders, receivers))
    return GraphContext(
        edges=EdgeList(senders, receivers, np.asarray(geometry.valid), None),
        matrices=tuple(map(np.asarray, matrices)),
        scalars=rng.normal(size=(len(senders), NUM_INVARIANTS)),
        graph_index=GRAPH_INDEX,
        n_node=np.bincount(GRAPH_INDEX),
    )


@jax.jit
def _frames(vectors: jax.Array) -> tuple[EdgeGeometry, tuple[jax.Array, ...]]:
    geometry = edge_geometry(vectors)
    return geometry, wigner_matrices(aligning_rotation(geometry.direction), 1)

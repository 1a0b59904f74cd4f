"""What every layer sees of the graph."""

from __future__ import annotations

from typing import NamedTuple

import jax

from equiformer_jax.ops.attention import EdgeList


class EdgeFrames(NamedTuple):
    """What a message reads of its edges, besides features.

    Attributes:
      matrices: Wigner matrices of degrees 1 to lmax that align the edges, `[E, 2l+1, 2l+1]`.
      scalars: invariants of the edges for the radial networks, `[E, K]`.
    """

    matrices: tuple[jax.Array, ...]
    scalars: jax.Array


class GraphContext(NamedTuple):
    """The graph as the layers see it; the same for all of them.

    Attributes:
      edges: senders, receivers, validity.
      matrices: Wigner matrices of degrees 1 to lmax that align the edges, `[E, 2l+1, 2l+1]`.
      scalars: invariants of the edges for the radial networks, `[E, K]`.
      graph_index: `[N]`, the graph of each node.
      n_node: `[G]`, sizes of the graphs.
    """

    edges: EdgeList
    matrices: tuple[jax.Array, ...]
    scalars: jax.Array
    graph_index: jax.Array
    n_node: jax.Array

    @property
    def frames(self) -> EdgeFrames:
        """What messages read of the edges."""
        return EdgeFrames(self.matrices, self.scalars)

    @property
    def num_graphs(self) -> int:
        """Number of graphs, padding included."""
        return self.n_node.shape[0]

"""Which structures are predicted together, in few shapes and in bounded memory.

Predictions do not depend on who is in a batch, so structures are dealt out by size: all batches of
a plan need nearly the same room and share one shape. Shapes lie on a geometric ladder, so that the
next list of structures, or the next step of a simulation, finds its program compiled already.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from equiformer_jax.data.budgets import Budget
from equiformer_jax.data.planning import GraphSizes, require_positive

GROWTH = 1.25  # from one size of the ladder to the next: at most a fifth of a batch is padding
SMALLEST_NODES, SMALLEST_EDGES = 16, 64  # what is smaller is not worth a program of its own


class PlannedBatch(NamedTuple):
    """Graphs that are predicted together.

    Attributes:
      indices: int64 `[b]`, ascending.
      shape: what they are padded to.
    """

    indices: np.ndarray
    shape: Budget


def plan_batches(sizes: GraphSizes, max_edges: int) -> list[PlannedBatch]:
    """Deals graphs to batches.

    Args:
      sizes: of the graphs, which may have no edges.
      max_edges: edges of a batch at most, padding included, and atoms at most. A graph that has
        more is a batch of its own.

    Returns:
      Batches that hold every graph once; those of more than one graph have the same shape.

    Raises:
      ValueError: `max_edges` is not positive.
    """
    require_positive(max_edges=max_edges)
    loads = np.maximum(sizes.edges, sizes.nodes)
    alone = np.flatnonzero(loads > max_edges)[:, None]
    plan = [PlannedBatch(part, _shape([part], sizes, max_edges)) for part in alone]
    small = np.flatnonzero(loads <= max_edges)
    if len(small):
        parts = _deal(small, loads, max_edges)
        shape = _shape(parts, sizes, max_edges)
        plan += [PlannedBatch(part, shape) for part in parts]
    return plan


def rounded_up(count: int, smallest: int) -> int:
    """The next size of the ladder that begins with `smallest`."""
    size = smallest
    while size < count:
        size = math.ceil(size * GROWTH)
    return size


def _deal(indices: np.ndarray, loads: np.ndarray, capacity: int) -> list[np.ndarray]:
    """Parts of nearly equal load, as few as hold everything."""
    count = -(-int(loads[indices].sum()) // capacity)
    while True:  # ends at the latest when every graph has a part of its own
        parts = _deal_to(count, indices, loads)
        if max(int(loads[part].sum()) for part in parts) <= capacity:
            return parts
        count += 1


def _deal_to(count: int, indices: np.ndarray, loads: np.ndarray) -> list[np.ndarray]:
    """The largest goes first, each to the part that has least."""
    parts: list[list[int]] = [[] for _ in range(count)]
    least = [(0, part) for part in range(count)]
    for index in indices[np.argsort(-loads[indices], kind="stable")].tolist():
        load, part = least[0]
        parts[part].append(index)
        heapq.heapreplace(least, (load + int(loads[index]), part))
    return [np.sort(np.array(part, np.int64)) for part in parts if part]


def _shape(parts: Sequence[np.ndarray], sizes: GraphSizes, max_edges: int) -> Budget:
    """One shape for all parts.

    As many graphs as nodes: there are never more, empty ones cost nothing, and shapes that differ
    in their number of graphs alone would be compiled in vain.
    """
    most_nodes = max(int(sizes.nodes[part].sum()) for part in parts)
    most_edges = max(int(sizes.edges[part].sum()) for part in parts)
    nodes = rounded_up(most_nodes + 1, SMALLEST_NODES)
    edges = rounded_up(most_edges, SMALLEST_EDGES)
    if most_edges <= max_edges:
        edges = min(edges, max_edges)
    return Budget(n_edge=edges, n_node=nodes, n_graph=nodes)

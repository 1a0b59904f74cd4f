"""Fixed shapes for graphs of every size: budgets, packing, and one slice of a batch per device.

A program is compiled once per shape, so batches are padded to budgets that are chosen before
training from the data themselves. A batch that is split over devices carries a leading device axis.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import jax
import jraph
import numpy as np

from equiformer_jax.graph import batch_graphs

NODE_MULTIPLE = 8
EDGE_MULTIPLE = 64
_SIMULATED_BATCHES = 128
# A further budget is a further compilation: it must save at least this share of the edges.
_WORTHWHILE_SAVING = 0.1


@dataclasses.dataclass(frozen=True, order=True)
class Budget:
    """The shape of a padded batch on one device, padding included.

    Attributes:
      n_edge: edge slots.
      n_node: node slots, one at least for padding.
      n_graph: graph slots, one at least for padding.
    """

    n_edge: int
    n_node: int
    n_graph: int

    def holds(self, nodes: int, edges: int, graphs: int) -> bool:
        """Whether so many real nodes, edges and graphs fit beside the padding graph."""
        return nodes < self.n_node and edges <= self.n_edge and graphs < self.n_graph

    def union(self, other: Budget) -> Budget:
        """The smallest budget that holds whatever either of the two holds."""
        return Budget(
            n_edge=max(self.n_edge, other.n_edge),
            n_node=max(self.n_node, other.n_node),
            n_graph=max(self.n_graph, other.n_graph),
        )


@dataclasses.dataclass(frozen=True)
class GraphSizes:
    """Sizes of the graphs of a data set.

    Attributes:
      nodes: `[n]` number of atoms of each graph.
      edges: `[n]` number of edges of each graph.
    """

    nodes: np.ndarray
    edges: np.ndarray

    @classmethod
    def of(cls, graphs: Sequence[jraph.GraphsTuple]) -> GraphSizes:
        """Measures unpadded graphs, one graph in each tuple."""
        return cls(
            nodes=np.array([int(graph.n_node.sum()) for graph in graphs], np.int64),
            edges=np.array([int(graph.n_edge.sum()) for graph in graphs], np.int64),
        )


def _rounded(nodes: int, edges: int, graphs: int) -> Budget:
    def up(value: int, multiple: int) -> int:
        return -(-value // multiple) * multiple

    return Budget(
        n_edge=max(up(edges, EDGE_MULTIPLE), EDGE_MULTIPLE),
        n_node=up(nodes + 1, NODE_MULTIPLE),
        n_graph=graphs + 1,
    )


def split_over_devices(
    indices: np.ndarray, sizes: GraphSizes, num_devices: int
) -> list[np.ndarray]:
    """Deals the graphs of one batch out to devices so that each has about the same number of edges.

    The largest graph goes first, each to the device with the fewest edges so far that has room
    left: no device gets more than `ceil(len(indices) / num_devices)` graphs.

    Args:
      indices: `[b]` graphs of the batch.
      sizes: sizes of all graphs.
      num_devices: how many parts to make.

    Returns:
      `num_devices` arrays of indices; some are empty where the batch has fewer graphs than devices.
    """
    capacity = -(-len(indices) // num_devices)
    parts: list[list[int]] = [[] for _ in range(num_devices)]
    loads = np.zeros(num_devices, np.int64)
    for index in sorted(indices.tolist(), key=lambda i: (-sizes.edges[i], i)):
        open_parts = [d for d in range(num_devices) if len(parts[d]) < capacity]
        device = min(open_parts, key=lambda d: (loads[d], d))
        parts[device].append(index)
        loads[device] += sizes.edges[index]
    return [np.array(part, np.int64) for part in parts]


def _largest_part(parts: Sequence[np.ndarray], sizes: GraphSizes) -> tuple[int, int]:
    nodes = max(int(sizes.nodes[part].sum()) for part in parts)
    edges = max(int(sizes.edges[part].sum()) for part in parts)
    return nodes, edges


def budget_for(batches: Sequence[Sequence[np.ndarray]], sizes: GraphSizes) -> Budget:
    """The smallest budget that holds batches which are known beforehand, as those of an evaluation.

    Args:
      batches: for each batch, the graphs of each device (`split_over_devices`).
      sizes: sizes of all graphs.
    """
    largest = [_largest_part(parts, sizes) for parts in batches]
    graphs = max(len(part) for parts in batches for part in parts)
    return _rounded(max(n for n, _ in largest), max(e for _, e in largest), graphs)


def choose_budgets(sizes: GraphSizes, batch_size: int, num_devices: int = 1) -> list[Budget]:
    """Chooses budgets for batches of `batch_size` graphs drawn at random.

    The last budget holds the largest graphs together, so that no batch can ever be too large. Where
    batches are usually much smaller, smaller budgets come before it: one for nearly every batch and
    one for a typical batch, both read off simulated batches.

    Args:
      sizes: sizes of the training graphs.
      batch_size: graphs in a batch, over all devices.
      num_devices: devices that share a batch.

    Returns:
      One to three budgets for one device, in ascending order.
    """
    graphs = -(-batch_size // num_devices)

    def largest_together(values: np.ndarray) -> int:
        return int(np.sort(values)[-graphs:].sum())

    budgets = [_rounded(largest_together(sizes.nodes), largest_together(sizes.edges), graphs)]
    generator = np.random.default_rng(0)
    count = min(batch_size, len(sizes.nodes))
    simulated = np.array(
        [
            _largest_part(
                split_over_devices(
                    generator.choice(len(sizes.nodes), count, replace=False), sizes, num_devices
                ),
                sizes,
            )
            for _ in range(_SIMULATED_BATCHES)
        ]
    )
    for share in (0.99, 0.6):
        nodes, edges = np.quantile(simulated, share, axis=0, method="higher").astype(int)
        smaller = _rounded(nodes, edges, graphs)
        if smaller.n_edge < (1 - _WORTHWHILE_SAVING) * budgets[0].n_edge:
            budgets.insert(0, smaller)
    return budgets


def check_budget(sizes: GraphSizes, budget: Budget) -> None:
    """Checks, before training starts, that every graph fits a given budget on its own.

    Raises:
      ValueError: names the largest graph that does not fit and the budget that it needs.
    """
    oversize = (sizes.nodes >= budget.n_node) | (sizes.edges > budget.n_edge)
    if not oversize.any():
        return
    index = int(np.flatnonzero(oversize)[np.argmax(sizes.edges[oversize])])
    needed = _rounded(int(sizes.nodes[oversize].max()), int(sizes.edges[oversize].max()), 1)
    raise ValueError(
        f"{int(oversize.sum())} graphs do not fit the budget of {budget.n_node} nodes and "
        f"{budget.n_edge} edges; the largest is graph {index} with {sizes.nodes[index]} atoms and "
        f"{sizes.edges[index]} edges. All would fit "
        f"a budget of {needed.n_node} nodes and {needed.n_edge} edges"
    )


def smallest_fitting(
    budgets: Sequence[Budget], parts: Sequence[np.ndarray], sizes: GraphSizes
) -> Budget:
    """The first of ascending budgets that holds every device's share of a batch.

    Raises:
      ValueError: none does; names the graphs and what they need.
    """
    nodes, edges = _largest_part(parts, sizes)
    graphs = max(len(part) for part in parts)
    for budget in budgets:
        if budget.holds(nodes, edges, graphs):
            return budget
    raise ValueError(
        f"a batch of graphs {[part.tolist() for part in parts]} needs {nodes + 1} nodes, "
        f"{edges} edges and {graphs + 1} graphs on a device, more than the largest budget, "
        f"{budgets[-1]}"
    )


def pack(
    graphs: Sequence[jraph.GraphsTuple], budget: Budget, template: jraph.GraphsTuple
) -> jraph.GraphsTuple:
    """Pads a list of graphs to a budget.

    Args:
      graphs: graphs of one structure each, in the order that they keep; none makes a batch of
        padding.
      budget: the shape to fill.
      template: any graph of the same data set; its fields tell what an empty batch carries.

    Returns:
      A `GraphsTuple` of NumPy arrays with `budget.n_node` nodes, `budget.n_edge` edges and
      `budget.n_graph` graphs, padding graphs last.
    """
    shape = {"n_node": budget.n_node, "n_edge": budget.n_edge, "n_graph": budget.n_graph}
    return batch_graphs(list(graphs) if len(graphs) else [_without_content(template)], **shape)


def _without_content(graph: jraph.GraphsTuple) -> jraph.GraphsTuple:
    """A tuple of zero graphs with the fields of `graph`."""
    return jax.tree.map(lambda leaf: np.asarray(leaf)[:0], graph)


def stack_for_devices(graphs: Sequence[jraph.GraphsTuple]) -> jraph.GraphsTuple:
    """Stacks equally padded graphs on a new leading axis, one slice for each device."""
    return jax.tree.map(lambda *leaves: np.stack(leaves), *graphs)


def batch_fill(
    parts: Sequence[np.ndarray], sizes: GraphSizes, budget: Budget
) -> tuple[float, float]:
    """Shares of node slots and of edge slots of a batch that are real work."""
    nodes = sum(int(sizes.nodes[part].sum()) for part in parts) / (len(parts) * budget.n_node)
    edges = sum(int(sizes.edges[part].sum()) for part in parts) / (len(parts) * budget.n_edge)
    return nodes, edges

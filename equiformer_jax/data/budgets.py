"""Budgets: the shapes that batches are padded to, slots for nodes, edges and graphs.

A program is compiled once per shape, so there are few of them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from equiformer_jax.data.planning import GraphSizes

NODE_MULTIPLE = 8
EDGE_MULTIPLE = 64


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


class EpochFill(NamedTuple):
    """How full the batches of an epoch are.

    Attributes:
      nodes: share of all node slots that hold atoms.
      edges: share of all edge slots that hold edges.
      batches: how many batches each budget took, in the order of the budgets.
    """

    nodes: float
    edges: float
    batches: tuple[int, ...]


def rounded_budget(nodes: int, edges: int, graphs: int) -> Budget:
    """The budget that a device needs for so many nodes, edges and graphs, rounded up.

    Multiples keep budgets that hardly differ from being different programs, and suit the tiles in
    which an accelerator works.
    """
    return Budget(
        n_edge=max(-(-edges // EDGE_MULTIPLE), 1) * EDGE_MULTIPLE,
        n_node=-(-(nodes + 1) // NODE_MULTIPLE) * NODE_MULTIPLE,
        n_graph=graphs + 1,
    )


def largest_parts(batches: Sequence[Sequence[np.ndarray]], sizes: GraphSizes) -> np.ndarray:
    """int64 `[batches, 2]`: the most nodes and the most edges that one device of a batch gets."""
    return np.array(
        [
            (
                max(int(sizes.nodes[part].sum()) for part in parts),
                max(int(sizes.edges[part].sum()) for part in parts),
            )
            for parts in batches
        ],
        np.int64,
    )


def budget_for(batches: Sequence[Sequence[np.ndarray]], sizes: GraphSizes) -> Budget:
    """The smallest budget that holds batches which are known beforehand, as those of an evaluation.

    Args:
      batches: for each batch, the graphs of each device.
      sizes: sizes of all graphs.
    """
    nodes, edges = largest_parts(batches, sizes).max(axis=0).tolist()
    return rounded_budget(nodes, edges, max(len(part) for parts in batches for part in parts))


def smallest_fitting(
    budgets: Sequence[Budget], parts: Sequence[np.ndarray], sizes: GraphSizes
) -> Budget:
    """The first of ascending budgets that holds every device's share of a batch.

    Raises:
      ValueError: none does; names the graphs and what they need.
    """
    nodes, edges = largest_parts([parts], sizes)[0].tolist()
    graphs = max(len(part) for part in parts)
    for budget in budgets:
        if budget.holds(nodes, edges, graphs):
            return budget
    raise ValueError(
        f"a batch of graphs {[part.tolist() for part in parts]} needs {nodes + 1} nodes, "
        f"{edges} edges and {graphs + 1} graphs on a device, more than the largest budget, "
        f"{budgets[-1]}"
    )


def batch_fill(
    parts: Sequence[np.ndarray], sizes: GraphSizes, budget: Budget
) -> tuple[float, float]:
    """Shares of node slots and of edge slots of a batch that are real work."""
    nodes = sum(int(sizes.nodes[part].sum()) for part in parts) / (len(parts) * budget.n_node)
    edges = sum(int(sizes.edges[part].sum()) for part in parts) / (len(parts) * budget.n_edge)
    return nodes, edges


def fill_of_plan(
    plan: Sequence[Sequence[np.ndarray]], sizes: GraphSizes, budgets: Sequence[Budget]
) -> EpochFill:
    """Says how full the batches of a plan are, each in the smallest budget that holds it.

    Args:
      plan: at least one batch, for each the graphs of each device.
      sizes: sizes of all graphs.
      budgets: ascending; the last holds every batch.

    Raises:
      ValueError: a batch fits no budget; names its graphs and what they need.
    """
    taken = [budgets.index(smallest_fitting(budgets, parts, sizes)) for parts in plan]
    batches = np.bincount(taken, minlength=len(budgets))
    devices = len(plan[0])
    real = np.concatenate([part for parts in plan for part in parts])
    return EpochFill(
        nodes=float(sizes.nodes[real].sum() / (devices * batches @ [b.n_node for b in budgets])),
        edges=float(sizes.edges[real].sum() / (devices * batches @ [b.n_edge for b in budgets])),
        batches=tuple(batches.tolist()),
    )

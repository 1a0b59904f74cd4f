"""Fixed shapes for graphs of every size: padding to a budget, and one slice of a batch per device.

Which graphs make a batch is decided in `planning`, which shapes there are in `budgets` and
`budget_choice`; their names can be imported from here. A batch that is split over devices carries a
leading device axis.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jraph
import numpy as np

from equiformer_jax.data.budget_choice import choose_budgets
from equiformer_jax.data.budgets import (
    Budget,
    EpochFill,
    batch_fill,
    budget_for,
    fill_of_plan,
    smallest_fitting,
)
from equiformer_jax.data.limits import check_limits
from equiformer_jax.data.planning import (
    RECOMMENDED_WINDOW,
    GraphSizes,
    plan_epoch,
    plan_evaluation,
    split_over_devices,
)
from equiformer_jax.graph import batch_graphs

__all__ = [
    "RECOMMENDED_WINDOW",
    "Budget",
    "EpochFill",
    "GraphSizes",
    "batch_fill",
    "budget_for",
    "check_limits",
    "choose_budgets",
    "fill_of_plan",
    "pack",
    "plan_epoch",
    "plan_evaluation",
    "smallest_fitting",
    "split_over_devices",
    "stack_for_devices",
]


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

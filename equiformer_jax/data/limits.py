"""What a device is allowed to hold, checked before anything is compiled."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from equiformer_jax.data.budgets import Budget, rounded_budget
from equiformer_jax.data.planning import GraphSizes


def check_limits(
    sizes: GraphSizes,
    names: Callable[[int], str],
    max_nodes: int | None,
    max_edges: int | None,
    budgets: Sequence[Budget] = (),
) -> None:
    """Checks that neither a graph alone nor a batch needs more slots than a device may have.

    Args:
      sizes: sizes of all graphs.
      names: gives the name of a structure by its index, as `StructureSequence.name_of` does.
      max_nodes: node slots that a device may have, padding included; `None` for any number.
      max_edges: edge slots that a device may have, padding included; `None` for any number.
      budgets: those that batches are padded to.

    Raises:
      ValueError: one needs more; names the structure that needs most, its size, the budget that is
        needed and the limit.
    """
    _check_limit("nodes", sizes.nodes, sizes, names, max_nodes, budgets)
    _check_limit("edges", sizes.edges, sizes, names, max_edges, budgets)


def _check_limit(
    kind: str,
    values: np.ndarray,
    sizes: GraphSizes,
    names: Callable[[int], str],
    limit: int | None,
    budgets: Sequence[Budget],
) -> None:
    if limit is None:
        return
    index = int(np.argmax(values))
    alone = rounded_budget(int(sizes.nodes[index]), int(sizes.edges[index]), 1)
    largest = f"{names(index)} with {sizes.nodes[index]} atoms and {sizes.edges[index]} edges"
    if _slots(alone, kind) > limit:
        raise ValueError(
            f"{largest} needs a budget of {alone.n_node} nodes and {alone.n_edge} edges on a "
            f"device, but no more than {limit} {kind} are allowed: raise the limit or leave the "
            "structure out"
        )
    for budget in budgets:
        if _slots(budget, kind) > limit:
            raise ValueError(
                f"a batch needs a budget of up to {budget.n_node} nodes and {budget.n_edge} edges "
                f"on a device for {budget.n_graph - 1} graphs, the largest of which is {largest}, "
                f"but no more than {limit} {kind} are allowed: raise the limit, make the batch "
                "smaller or use more devices"
            )


def _slots(budget: Budget, kind: str) -> int:
    return budget.n_node if kind == "nodes" else budget.n_edge

"""Padded batches cut straight out of a `GraphStore`."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jraph
import numpy as np

from equiformer_jax.data.batching import Budget
from equiformer_jax.data.graph_store import GraphStore


def pack_from_store(store: GraphStore, indices: np.ndarray, budget: Budget) -> jraph.GraphsTuple:
    """Bit for bit what `batching.pack` makes of the same graphs, without making the graphs.

    Args:
      store: where the graphs are.
      indices: `[g]`, which ones, in their order in the batch; none makes a batch of padding.
      budget: the shape to fill.

    Returns:
      A `GraphsTuple` of new arrays with `budget.n_node` nodes, `budget.n_edge` edges and
      `budget.n_graph` graphs, padding graphs last.

    Raises:
      ValueError: the graphs do not fit the budget.
    """
    return jax.tree.map(lambda leaf: leaf[0], pack_parts(store, [indices], budget))


def pack_parts(store: GraphStore, parts: Sequence[np.ndarray], budget: Budget) -> jraph.GraphsTuple:
    """The same for every device, on a new leading axis.

    Args:
      store: where the graphs are.
      parts: for each device, which graphs it gets.
      budget: the shape to fill on one device.

    Raises:
      ValueError: the graphs of a device do not fit the budget; names them.
    """
    rows = {"nodes": budget.n_node, "edges": budget.n_edge, "globals": budget.n_graph}

    def blank(part: str) -> dict[str, np.ndarray]:
        return {
            name: np.zeros((len(parts), rows[part], *values.shape[1:]), store.type_of(part, name))
            for name, values in store.features(part).items()
        }

    nodes, edges, own = (blank(part) for part in rows)
    n_node, n_edge = np.zeros((2, len(parts), budget.n_graph), np.int32)
    for device, part in enumerate(parts):
        indices = np.asarray(part, np.int64)
        _check_fit(store, indices, budget)
        _gather(store, "nodes", store.first_node, indices, nodes, device)
        _gather(store, "edges", store.first_edge, indices, edges, device)
        _gather_globals(store, indices, own, device)
        _shift_ends(store, indices, edges, device)
        for sizes, counts, slots in (
            (store.sizes.nodes, n_node, budget.n_node),
            (store.sizes.edges, n_edge, budget.n_edge),
        ):
            counts[device, : len(indices)] = sizes[indices]
            counts[device, len(indices)] = slots - sizes[indices].sum()
    return jraph.GraphsTuple(
        nodes=nodes,
        senders=edges.pop("senders"),
        receivers=edges.pop("receivers"),
        edges=edges,
        globals=own,
        n_node=n_node,
        n_edge=n_edge,
    )


def _check_fit(store: GraphStore, indices: np.ndarray, budget: Budget) -> None:
    nodes = int(store.sizes.nodes[indices].sum())
    edges = int(store.sizes.edges[indices].sum())
    if not budget.holds(nodes, edges, len(indices)):
        raise ValueError(
            f"graphs {indices.tolist()} with {nodes} atoms and {edges} edges do not fit {budget}"
        )


def _gather(
    store: GraphStore,
    part: str,
    first: np.ndarray,
    indices: np.ndarray,
    batch: dict[str, np.ndarray],
    device: int,
) -> None:
    """Copies the rows of the graphs, one graph after another, and brings them to their types.

    Slices rather than an index for every row: graphs are contiguous, and copies of whole stretches
    are several times as fast where graphs are large.
    """
    begins, ends = first[indices].tolist(), first[indices + 1].tolist()
    stretches = [slice(begin, end) for begin, end in zip(begins, ends, strict=True)]
    if not stretches:
        return
    filled = sum(ends) - sum(begins)
    for name, values in store.features(part).items():
        np.concatenate(
            [values[stretch] for stretch in stretches],
            out=batch[name][device, :filled],
            casting="same_kind",
        )


def _gather_globals(
    store: GraphStore, indices: np.ndarray, batch: dict[str, np.ndarray], device: int
) -> None:
    for name, values in store.features("globals").items():
        chosen = store.energies(indices) if name == "energy" else values[indices]
        batch[name][device, : len(indices)] = chosen


def _shift_ends(
    store: GraphStore, indices: np.ndarray, edges: dict[str, np.ndarray], device: int
) -> None:
    """Counts nodes from the first of the batch; padding edges join the first padding node."""
    nodes, degrees = store.sizes.nodes[indices], store.sizes.edges[indices]
    first = (np.cumsum(nodes) - nodes).astype(np.int32)
    filled, padding = int(degrees.sum()), int(nodes.sum())
    offsets = np.repeat(first, degrees)
    for name in ("senders", "receivers"):
        edges[name][device, :filled] += offsets
        edges[name][device, filled:] = padding

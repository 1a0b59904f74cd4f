"""From a `Structure` to a `jraph.GraphsTuple`, and from many of these to one padded batch.

Everything here is NumPy on the host. Floats are float32, or float64 where jax's x64 mode is on. In
float32 an energy of thousands of eV keeps only some meV: take reference energies off the energy of
the structure before its graph is built.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import jraph
import numpy as np

from equiformer_jax.neighbors import neighbor_list
from equiformer_jax.structure import Structure

_Features = Mapping[str, np.ndarray]


def build_graph(
    structure: Structure, cutoff: float, max_neighbors: int | None = None
) -> jraph.GraphsTuple:
    """The structure's graph: N atoms, and an edge for every neighbor within the cutoff.

    Edges go from `senders` (neighbors) to `receivers` (centers), sorted by receiver; SPEC §1.1 and
    §8.2 say which there are (`neighbors.neighbor_list`). A structure whose atoms are all out of
    reach gives a graph without edges; `require_edges` refuses it where that is a mistake.

    Args:
        structure: N atoms; its `properties` stay behind.
        cutoff: Å, positive.
        max_neighbors: the most edges per receiver, the nearest ones; None keeps all.

    Returns:
        One graph of NumPy arrays. `nodes`: `positions` [N, 3] Å, `atomic_numbers` [N] and, where
        the structure has them, `forces` [N, 3] eV/Å, `tags` [N], `fixed` [N], `relaxed_positions`
        [N, 3] Å. `edges`: `shifts` [E, 3] where the structure is periodic. `globals`: `cell`
        [1, 3, 3] Å where it is periodic and, where present, `energy` [1] eV, `stress` [1, 3, 3]
        eV/Å³, `relaxed_energy` [1] eV.

    Raises:
        ValueError: the cutoff or max_neighbors is not positive.
    """
    return build_graph_in(float_type(), structure, cutoff, max_neighbors)


def build_graph_in(
    real: np.dtype, structure: Structure, cutoff: float, max_neighbors: int | None = None
) -> jraph.GraphsTuple:
    """`build_graph` with floats of a given type, for processes and threads without jax's settings.

    Args:
        real: float32 or float64.
        structure: as for `build_graph`, like the rest.
        cutoff: Å.
        max_neighbors: or None.
    """
    edges = neighbor_list(structure, cutoff, max_neighbors)
    per_graph = {
        "cell": structure.cell if structure.is_periodic else None,
        "energy": structure.energy,
        "stress": structure.stress,
        "relaxed_energy": structure.relaxed_energy,
    }
    return jraph.GraphsTuple(
        nodes=_node_features(structure, real),
        edges={"shifts": edges.shifts.astype(real)} if structure.is_periodic else {},
        globals={
            name: np.array(value, real)[None]
            for name, value in per_graph.items()
            if value is not None
        },
        senders=edges.senders,
        receivers=edges.receivers,
        n_node=np.array([structure.num_atoms], np.int32),
        n_edge=np.array([len(edges.senders)], np.int32),
    )


def require_edges(graph: jraph.GraphsTuple, name: str) -> jraph.GraphsTuple:
    """Gives the graph back, or refuses it because one of its structures has no edge.

    Args:
        graph: one or more graphs, not padded.
        name: what the error calls it, say the file and the record.

    Raises:
        ValueError: a graph without edges.
    """
    empty = np.flatnonzero(np.asarray(graph.n_edge) == 0)
    if len(empty):
        index = int(empty[0])
        which = name if len(graph.n_edge) == 1 else f"{name}, graph {index}"
        raise ValueError(
            f"{which}: a graph without edges: none of its {int(graph.n_node[index])} atoms has a "
            "neighbor within the cutoff"
        )
    return graph


def batch_graphs(
    graphs: Iterable[jraph.GraphsTuple],
    n_node: int | None = None,
    n_edge: int | None = None,
    n_graph: int | None = None,
) -> jraph.GraphsTuple:
    """One padded graph out of many; graphs and atoms keep their order.

    Padding is jraph's: graphs at the end, the first of which takes all padding nodes and edges.
    Each padding edge joins the first padding node with itself, so edges stay sorted by receiver.
    Padding values are zero, atomic numbers included.

    Args:
        graphs: at least one graph, all with the same features.
        n_node: nodes of the batch, at least one more than the graphs have; None: just that.
        n_edge: edges of the batch, at least those of the graphs and at least one; None: just that.
        n_graph: graphs of the batch, at least one more than there are; None: just that.

    Returns:
        A GraphsTuple of NumPy arrays with exactly the sizes asked for.

    Raises:
        ValueError: no graphs; graphs that differ in their features (names the feature and the
            graph); a size that is too small (names it and what is needed).
    """
    graphs = list(graphs)
    _check_same_features(graphs)
    counts = [(len(g.n_node), int(np.sum(g.n_node)), int(np.sum(g.n_edge))) for g in graphs]
    real_graphs, real_nodes, real_edges = (sum(column) for column in zip(*counts, strict=True))
    n_graph = _budget("n_graph", n_graph, real_graphs + 1, f"{real_graphs} graphs and padding")
    n_node = _budget("n_node", n_node, real_nodes + 1, f"{real_nodes} nodes and padding")
    n_edge = _budget("n_edge", n_edge, max(real_edges, 1), f"{real_edges} edges")

    first_nodes = np.cumsum([0] + [nodes for _, nodes, _ in counts[:-1]])

    def endpoints(name: str) -> np.ndarray:
        parts = [getattr(g, name) + first for g, first in zip(graphs, first_nodes, strict=True)]
        return _concatenate(parts, n_edge, fill=real_nodes, dtype=np.int32)

    def sizes(name: str, padding: int) -> np.ndarray:
        padded = _concatenate([getattr(g, name) for g in graphs], n_graph, dtype=np.int32)
        padded[real_graphs] = padding
        return padded

    return jraph.GraphsTuple(
        nodes=_batch_features([g.nodes for g in graphs], n_node),
        edges=_batch_features([g.edges for g in graphs], n_edge),
        globals=_batch_features([g.globals for g in graphs], n_graph),
        senders=endpoints("senders"),
        receivers=endpoints("receivers"),
        n_node=sizes("n_node", n_node - real_nodes),
        n_edge=sizes("n_edge", n_edge - real_edges),
    )


def float_type() -> np.dtype:
    """The type of a graph's floats: float32, or float64 where jax's x64 mode is on."""
    return jax.dtypes.canonicalize_dtype(np.float64)


def _node_features(structure: Structure, real: np.dtype) -> dict[str, np.ndarray]:
    types: dict[str, Any] = {
        "positions": real,
        "atomic_numbers": np.int32,
        "forces": real,
        "tags": np.int32,
        "fixed": bool,
        "relaxed_positions": real,
    }
    values = {name: getattr(structure, name) for name in types}
    return {name: value.astype(types[name]) for name, value in values.items() if value is not None}


def _check_same_features(graphs: Sequence[jraph.GraphsTuple]) -> None:
    if not graphs:
        raise ValueError("graphs: expected at least one graph, got none")
    for part in ("nodes", "edges", "globals"):
        expected = getattr(graphs[0], part).keys()
        for index, graph in enumerate(graphs):
            different = expected ^ getattr(graph, part).keys()
            if different:
                name = min(different)
                holder, lacking = (0, index) if name in expected else (index, 0)
                raise ValueError(
                    f'graphs: graph {holder} has {part}["{name}"] and graph {lacking} has not: '
                    "graphs of one batch need the same features"
                )


def _budget(name: str, given: int | None, needed: int, contents: str) -> int:
    if given is None:
        return needed
    if given < needed:
        raise ValueError(f"{name}: {given} is too small, {contents} need at least {needed}")
    return int(given)


def _batch_features(parts: Sequence[_Features], size: int) -> dict[str, np.ndarray]:
    return {name: _concatenate([part[name] for part in parts], size) for name in parts[0]}


def _concatenate(
    parts: Sequence[np.ndarray], size: int, fill: int = 0, dtype: Any = None
) -> np.ndarray:
    """The parts one after another, then `fill`, along a first axis of `size`."""
    result = np.full((size, *parts[0].shape[1:]), fill, dtype or parts[0].dtype)
    filled = sum(len(part) for part in parts)
    np.concatenate(parts, out=result[:filled], casting="same_kind")
    return result

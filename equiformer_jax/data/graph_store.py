"""The graphs of a data set as a few flat arrays, in memory or mapped from files.

Half a million graphs are a dozen arrays and no Python objects: they take little memory, open at
once, and a batch is cut out of them without a graph being made (`graph_packing`). Whole numbers
lie in the smallest type that holds them. Energies stay in float64 until they are asked for, so that
references go off before anything is rounded.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jraph
import numpy as np

from equiformer_jax.data.batching import GraphSizes
from equiformer_jax.structure import Structure

# Features of whole graphs that are kept in float64.
ENERGIES = ("energy", "relaxed_energy")

_INTEGER_TYPES = (np.int8, np.int16, np.int32, np.int64)


class GraphStore(Sequence[jraph.GraphsTuple]):
    """n graphs with N nodes and E edges in all, one after another.

    Attributes:
      arrays: what there is, by names like `nodes.positions` [N, 3], `edges.senders` [E] (counted
        from the first node of their graph), `globals.energy` [n], and `n_node` [n], `n_edge` [n].
        Read-only; whole numbers compact, energies float64.
      real: the type of the floats of its graphs.
      references: float64 [n], eV, what is taken off the energies.
      first_node: int64 [n + 1], where the nodes of each graph begin; N at the end.
      first_edge: int64 [n + 1], where its edges begin.
    """

    def __init__(self, arrays: Mapping[str, np.ndarray], real: np.dtype) -> None:
        """Takes the arrays as they are.

        Args:
          arrays: from `flatten_graphs` or `concatenate`, at least one graph.
          real: float32 or float64.
        """
        self.arrays = {name: _read_only(array) for name, array in arrays.items()}
        self._parts = {
            part: _with_prefix(self.arrays, f"{part}.") for part in ("nodes", "edges", "globals")
        }
        self.real = np.dtype(real)
        self.references = _read_only(np.zeros(len(arrays["n_node"])))
        self.first_node, self.first_edge = (
            np.concatenate([[0], np.cumsum(arrays[name], dtype=np.int64)])
            for name in ("n_node", "n_edge")
        )

    def __len__(self) -> int:
        return len(self.arrays["n_node"])

    def __getitem__(self, index: Any) -> Any:
        """Graph `index`, just as `build_graph` gives it; floats are views where they can be."""
        position = range(len(self))[index]
        nodes = slice(*self.first_node[position : position + 2])
        edges = slice(*self.first_edge[position : position + 2])
        alone = slice(position, position + 1)

        def features(part: str, rows: slice) -> dict[str, np.ndarray]:
            return {
                name: values[rows].astype(self.type_of(part, name), copy=False)
                for name, values in self.features(part).items()
            }

        ends = features("edges", edges)
        own = features("globals", alone)
        if "energy" in own:
            own["energy"] = self.energies(alone).astype(self.real)
        return jraph.GraphsTuple(
            nodes=features("nodes", nodes),
            senders=ends.pop("senders"),
            receivers=ends.pop("receivers"),
            edges=ends,
            globals=own,
            n_node=self.arrays["n_node"][alone].astype(np.int32),
            n_edge=self.arrays["n_edge"][alone].astype(np.int32),
        )

    @functools.cached_property
    def sizes(self) -> GraphSizes:
        """Nodes and edges of every graph."""
        return GraphSizes(nodes=np.diff(self.first_node), edges=np.diff(self.first_edge))

    def features(self, part: str) -> dict[str, np.ndarray]:
        """The flat arrays of `nodes`, `edges` (senders and receivers too) or `globals`, by name."""
        return self._parts[part]

    def type_of(self, part: str, name: str) -> np.dtype:
        """The type of a feature in a graph: `real`, bool or int32."""
        stored = self.arrays[f"{part}.{name}"].dtype
        if stored.kind == "f" or name == "shifts":
            return self.real
        return stored if stored.kind == "b" else np.dtype(np.int32)

    def energies(self, which: Any = slice(None)) -> np.ndarray:
        """Energies relative to the references, float64, eV.

        Args:
          which: a slice or an array of indices.

        Raises:
          ValueError: the structures have no energy.
        """
        if "globals.energy" not in self.arrays:
            raise ValueError("the structures of this graph store have no energy")
        return self.arrays["globals.energy"][which] - self.references[which]

    def relative_to(self, references: float | np.ndarray) -> GraphStore:
        """The same graphs, not copied, with energies relative to references.

        Total energies are thousands of eV and batches are float32, whose spacing there is about a
        meV: references go off in float64, before the label is rounded.

        Args:
          references: eV, one for all or `[n]`; for standardized targets the mean training energy.

        Raises:
          ValueError: the structures have no energy.
        """
        self.energies(slice(0))
        shifts = np.broadcast_to(np.asarray(references, np.float64), len(self))
        store = copy.copy(self)
        store.references = _read_only(self.references + shifts)
        return store


def flatten_graphs(
    structures: Sequence[Structure], graphs: Sequence[jraph.GraphsTuple]
) -> dict[str, np.ndarray]:
    """The flat arrays of some graphs.

    Args:
      structures: where the energies come from, in float64.
      graphs: their graphs (`build_graph`), all with the same features; at least one.

    Returns:
      The arrays by name, as `GraphStore.arrays`.
    """
    first = graphs[0]
    arrays = {
        f"nodes.{name}": np.concatenate([graph.nodes[name] for graph in graphs])
        for name in first.nodes
    }
    arrays |= {
        f"edges.{name}": np.concatenate([graph.edges[name] for graph in graphs])
        for name in first.edges
    }
    arrays |= {
        f"edges.{name}": np.concatenate([getattr(graph, name) for graph in graphs])
        for name in ("senders", "receivers")
    }
    arrays |= {
        f"globals.{name}": np.array([getattr(structure, name) for structure in structures])
        if name in ENERGIES
        else np.concatenate([graph.globals[name] for graph in graphs])
        for name in first.globals
    }
    arrays |= {
        name: np.concatenate([getattr(graph, name) for graph in graphs])
        for name in ("n_node", "n_edge")
    }
    return {
        name: _compact(array) if array.dtype.kind == "i" or name == "edges.shifts" else array
        for name, array in arrays.items()
    }


def concatenate(parts: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """The flat arrays of all graphs of several parts; types grow where they have to."""
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _with_prefix(arrays: Mapping[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {
        name.removeprefix(prefix): array
        for name, array in arrays.items()
        if name.startswith(prefix)
    }


def _compact(array: np.ndarray) -> np.ndarray:
    """Whole numbers in the smallest integer type that holds them."""
    low, high = array.min(initial=0), array.max(initial=0)
    kind = next(
        kind for kind in _INTEGER_TYPES if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max
    )
    return array.astype(kind, copy=False)


def _read_only(array: np.ndarray) -> np.ndarray:
    """A plain read-only view; slices of `np.memmap` itself are slow to make."""
    view = np.asarray(array).view()
    view.flags.writeable = False
    return view

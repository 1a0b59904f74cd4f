"""Batches of structures that change with every access: their graphs are built when needed.

Training with noise moves atoms, and with them neighbor lists change. What happens to a structure is
a function of (seed, epoch, structure) alone, in whichever thread, process or run it happens.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import jraph
import numpy as np

from equiformer_jax.data import batching
from equiformer_jax.data.augmentation import Augmentation
from equiformer_jax.data.budgets import largest_parts, rounded_budget
from equiformer_jax.data.graph_store import GraphStore
from equiformer_jax.data.prefetch import DeviceBatch
from equiformer_jax.data.structures import StructureSequence
from equiformer_jax.graph import build_graph_in, require_edges

# By how much a budget grows at once, so that few new shapes come up.
_GROWTH = 1.25
HEADROOM = 0.1  # of edges, where nothing else is asked for


@dataclasses.dataclass(frozen=True)
class AugmentedStructures:
    """What is done to training structures, and how their graphs are built.

    Attributes:
      structures: the training structures, those of the graph store in its order.
      augment: changes one of them; what it does depends on the structure and the random generator
        that it is given, and on nothing else.
      cutoff: neighbors are closer than this, Å.
      max_neighbors: the most neighbors of an atom; None keeps all.
      num_workers: processes that make batches; 0 makes them in threads of this process. They start
        anew in every epoch and take some seconds; everything here must be picklable.
      headroom: by which share a structure may have more edges than its undisturbed graph
        (`sizes_with_headroom`).
    """

    structures: StructureSequence
    augment: Augmentation
    cutoff: float
    max_neighbors: int | None = None
    num_workers: int = 0
    headroom: float = HEADROOM

    def sizes_with_headroom(self, sizes: batching.GraphSizes) -> batching.GraphSizes:
        """Sizes to choose budgets from, given those of the undisturbed graphs."""
        edges = np.ceil(sizes.edges * (1 + self.headroom)).astype(np.int64)
        return batching.GraphSizes(nodes=sizes.nodes, edges=edges)


class AugmentedAssembler:
    """Makes the batches of one epoch out of changed structures.

    A batch takes the smallest budget that holds it. One that fits none of them gets a larger one,
    which costs a compilation. Where several hosts feed one step they cannot agree on either without
    talking: all batches take the last budget then, and one that does not fit is an error.
    """

    def __init__(
        self,
        source: AugmentedStructures,
        store: GraphStore,
        plan: Sequence[Sequence[np.ndarray]],
        budgets: Sequence[batching.Budget],
        *,
        seed: int,
        epoch: int,
        is_alone: bool,
    ) -> None:
        """Remembers what batches are made of; the store itself is not kept.

        Args:
          source: structures and what is done to them.
          store: their undisturbed graphs; references and the type of floats are taken from it.
          plan: for each batch, the structures of each device of this host.
          budgets: ascending.
          seed: of the run.
          epoch: from 0.
          is_alone: whether this is the only host, so that it may choose budgets.
        """
        self._source, self._plan, self._is_alone = source, plan, is_alone
        self._budgets = list(budgets) if is_alone else [budgets[-1]]
        self._seed, self._epoch = seed, epoch
        self._real, self._references = store.real, store.references

    def __call__(self, step: int) -> DeviceBatch:
        """Makes batch `step`."""
        parts = self._plan[step]
        graphs = [[self._graph(int(index)) for index in part] for part in parts]
        sizes = batching.GraphSizes.of([graph for part in graphs for graph in part])
        ends = np.cumsum([len(part) for part in parts])
        rows = np.split(np.arange(ends[-1]), ends[:-1])
        budget = self._budget_for(rows, sizes, parts)
        template = next((part[0] for part in graphs if part), None) or self._graph(0)
        packed = [batching.pack(part, budget, template) for part in graphs]
        return DeviceBatch(
            graph=batching.stack_for_devices(packed),
            indices=list(parts),
            fill=batching.batch_fill(rows, sizes, budget),
        )

    def _graph(self, index: int) -> jraph.GraphsTuple:
        """The graph of a changed structure, with the float type and references of the store."""
        source = self._source
        draws = np.random.SeedSequence(self._seed, spawn_key=(self._epoch, index))
        structure, arrays = source.augment(source.structures[index], np.random.default_rng(draws))
        graph = build_graph_in(self._real, structure, source.cutoff, source.max_neighbors)
        if graph.n_edge[0] == 0:
            require_edges(graph, source.structures.name_of(index))
        own = dict(graph.globals)
        if structure.energy is not None:
            own["energy"] = np.array([structure.energy - self._references[index]], self._real)
        nodes = {**graph.nodes, **{name: self._typed(array) for name, array in arrays.items()}}
        return graph._replace(nodes=nodes, globals=own)

    def _typed(self, array: np.ndarray) -> np.ndarray:
        if array.dtype.kind == "f":
            return array.astype(self._real, copy=False)
        return array.astype(array.dtype if array.dtype.kind == "b" else np.int32, copy=False)

    def _budget_for(
        self, rows: list[np.ndarray], sizes: batching.GraphSizes, parts: Sequence[np.ndarray]
    ) -> batching.Budget:
        nodes, edges = largest_parts([rows], sizes)[0].tolist()
        need = (nodes, edges, max(map(len, rows)))
        for budget in self._budgets:
            if budget.holds(*need):
                return budget
        if not self._is_alone:
            raise ValueError(
                f"the changed structures {[part.tolist() for part in parts]} need {nodes + 1} "
                f"nodes and {edges} edges on a device, more than {budget}; several hosts cannot "
                f"agree on a larger one: choose a data.headroom above {self._source.headroom}"
            )
        while not budget.holds(*need):
            budget = rounded_budget(
                math.ceil(_GROWTH * budget.n_node),
                math.ceil(_GROWTH * budget.n_edge),
                max(need[2], budget.n_graph - 1),
            )
        return budget

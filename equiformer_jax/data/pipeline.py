"""From structures to the stream of padded batches that a training or an evaluation reads.

The order of the structures is a function of (seed, epoch) alone, so that a resumed run sees exactly
the batches that an uninterrupted one would have seen. Graphs are built once: positions do not
change.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import jraph
import numpy as np

from equiformer_jax.data import batching
from equiformer_jax.graph import build_graph, require_edges
from equiformer_jax.structure import Structure


class GraphSource(Sequence[jraph.GraphsTuple]):
    """The graphs of a list of structures, built once and kept.

    Attributes:
      sizes: `batching.GraphSizes` of all graphs.
    """

    def __init__(
        self, structures: Sequence[Structure], cutoff: float, max_neighbors: int | None = None
    ) -> None:
        """Builds the graphs.

        Args:
          structures: at least one structure.
          cutoff: neighbors are closer than this, Å.
          max_neighbors: keep at most so many nearest neighbors of an atom.

        Raises:
          ValueError: there is no structure, or one has an atom but no neighbor at all; names it.
        """
        if not len(structures):
            raise ValueError("a source of graphs needs at least one structure, got none")
        self._energies = [structure.energy for structure in structures]
        self._graphs = [
            require_edges(build_graph(structure, cutoff, max_neighbors), f"structure {index}")
            for index, structure in enumerate(structures)
        ]
        self.sizes = batching.GraphSizes.of(self._graphs)

    def __len__(self) -> int:
        return len(self._graphs)

    def __getitem__(self, index: Any) -> Any:
        return self._graphs[index]

    def relative_to(self, references: float | np.ndarray) -> GraphSource:
        """The same graphs with energies relative to references.

        Total energies are thousands of eV and batches are float32, whose spacing there is about a
        meV: references go off in float64, before the label is rounded.

        Args:
          references: eV, one for all or `[n]`; for standardized targets the mean training energy.
        """
        shifts = np.broadcast_to(np.asarray(references, np.float64), len(self))
        source = copy.copy(self)
        source._graphs = [
            _with_energy(graph, energy - shift)
            for graph, energy, shift in zip(self._graphs, self._energies, shifts, strict=True)
        ]
        source._energies = [e - shift for e, shift in zip(self._energies, shifts, strict=True)]
        return source


def _with_energy(graph: jraph.GraphsTuple, energy: float) -> jraph.GraphsTuple:
    kind = graph.globals["energy"].dtype
    return graph._replace(globals={**graph.globals, "energy": np.array([energy], kind)})


@dataclasses.dataclass(frozen=True)
class DeviceBatch:
    """One batch, split over devices and padded.

    Attributes:
      graph: `GraphsTuple` of NumPy arrays, each with a leading device axis.
      indices: for each device, which structures its graphs are, in their order in the batch.
      fill: shares of node slots and of edge slots that are real work.
    """

    graph: jraph.GraphsTuple
    indices: list[np.ndarray]
    fill: tuple[float, float]


def steps_per_epoch(num_structures: int, batch_size: int) -> int:
    """Number of full batches in an epoch; the incomplete last one is dropped in training.

    Raises:
      ValueError: there are fewer structures than one batch holds.
    """
    if num_structures < batch_size:
        raise ValueError(
            f"{num_structures} training structures do not fill one batch of {batch_size}; "
            "use a smaller batch size"
        )
    return num_structures // batch_size


def training_batches(
    source: GraphSource,
    budgets: Sequence[batching.Budget],
    *,
    batch_size: int,
    num_devices: int,
    seed: int,
    epoch: int,
    first_step: int = 0,
) -> Iterator[DeviceBatch]:
    """Yields the batches of one epoch in an order drawn from (seed, epoch).

    Args:
      source: training graphs.
      budgets: shapes to choose from, ascending (`batching.choose_budgets`).
      batch_size: graphs in a batch, over all devices.
      num_devices: length of the leading axis.
      seed: seed of the run.
      epoch: epoch, from 0.
      first_step: skips so many batches, to go on in the middle of an epoch.
    """
    order = np.random.default_rng([seed, epoch]).permutation(len(source))
    for step in range(first_step, steps_per_epoch(len(source), batch_size)):
        indices = order[step * batch_size : (step + 1) * batch_size]
        parts = batching.split_over_devices(indices, source.sizes, num_devices)
        yield _assemble(source, parts, batching.smallest_fitting(budgets, parts, source.sizes))


class EvaluationBatches(Sequence[DeviceBatch]):
    """Batches that hold every structure exactly once, all of one shape.

    Attributes:
      budget: that shape on one device.
    """

    def __init__(self, source: GraphSource, *, batch_size: int, num_devices: int) -> None:
        """Plans the batches in the order of the source.

        Args:
          source: graphs to evaluate.
          batch_size: graphs in a batch, over all devices; the last one may hold fewer.
          num_devices: length of the leading axis.
        """
        self._source = source
        starts = range(0, len(source), batch_size)
        chunks = [np.arange(s, min(s + batch_size, len(source))) for s in starts]
        self._parts = [batching.split_over_devices(c, source.sizes, num_devices) for c in chunks]
        self.budget = batching.budget_for(self._parts, source.sizes)

    def __len__(self) -> int:
        return len(self._parts)

    def __getitem__(self, index: Any) -> Any:
        return _assemble(self._source, self._parts[index], self.budget)

    def padded_to(self, budget: batching.Budget) -> EvaluationBatches:
        """The same batches in a budget that holds theirs, so that splits can share one program."""
        batches = copy.copy(self)
        batches.budget = budget
        return batches


def _assemble(source: GraphSource, parts: list[np.ndarray], budget: batching.Budget) -> DeviceBatch:
    slices = [batching.pack([source[i] for i in part], budget, source[0]) for part in parts]
    return DeviceBatch(
        graph=batching.stack_for_devices(slices),
        indices=parts,
        fill=batching.batch_fill(parts, source.sizes, budget),
    )

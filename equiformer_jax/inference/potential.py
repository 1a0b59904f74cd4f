"""`Potential`: a trained model that takes structures and gives structures, in eV and Å."""

from __future__ import annotations

import dataclasses
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import jax
import jraph
import numpy as np

from equiformer_jax.data.planning import GraphSizes, require_positive
from equiformer_jax.data.structures import StructureSequence
from equiformer_jax.graph import batch_graphs, build_graph, require_edges
from equiformer_jax.inference.batch_plan import plan_batches
from equiformer_jax.inference.meaning import Meaning
from equiformer_jax.inference.relaxed import has_volume, relaxed_positions
from equiformer_jax.models.checks import check_graph
from equiformer_jax.models.config import EquiformerConfig
from equiformer_jax.models.equiformer import Equiformer
from equiformer_jax.structure import Structure
from equiformer_jax.training.compiled import CompiledPerShape
from equiformer_jax.training.ensemble import SPREAD_PREFIX, make_ensemble_predict
from equiformer_jax.training.prediction import make_predict

# The energies and forces of such a batch need 1.3 GiB with the full MD17 model (lmax 2, 6 layers).
MAX_EDGES_PER_BATCH = 8192
# So many full batches are planned together: enough to fill them all, few enough to be kept.
_BATCHES_PER_WINDOW = 16
_SECONDS_BETWEEN_LINES = 10.0
_OF_GRAPHS = ("energy", "stress", SPREAD_PREFIX + "energy")  # all other outputs are of atoms

Say = Callable[[str], None]
Outputs = dict[str, np.ndarray]


class UnsuitableStructureError(ValueError):
    """A model cannot predict a structure; the message says which one and why."""


class Potential:
    """A trained model in use.

    Called with structures, it returns them in their order with the predicted `energy`, `forces`
    and, for periodic ones whose cell has a volume, `stress`: eV, eV/Å, eV/Å³, the stress positive
    under tension. They take the place of the labels; whatever else is known of a structure stays.
    Of an ensemble the mean of its members is predicted, and how far they differ is in `properties`:
    `spread_energy` and `spread_forces [N, 3]`, their standard deviations.
    Of a model of another label than the energy, `energy` is that label in its unit. If it is the
    `relaxed_energy`, that field has the same number and, if the model predicts displacements,
    `relaxed_positions` is there too.

    A model is compiled once for each shape of its batches, see `batch_plan`. It computes in float32
    on jax's first device; in float64 where jax's x64 mode is on and the parameters are float64.

    Attributes:
      config: the model's hyper-parameters.
      params: its parameters.
      meaning: what its numbers mean.
      with_forces: whether forces and stress are predicted.
      max_edges_per_batch: see `__init__`.
      members: models that predict together.
    """

    def __init__(
        self,
        config: EquiformerConfig,
        params: Any,
        meaning: Meaning,
        *,
        with_forces: bool | None = None,
        max_edges_per_batch: int = MAX_EDGES_PER_BATCH,
        members: int = 1,
        say: Say | None = None,
    ) -> None:
        """Puts the parameters on the device; compiles nothing yet.

        Args:
          config: the model.
          params: its parameters, without the `params` level around them.
          meaning: what its numbers mean.
          with_forces: predict forces and stress; if not given, where they mean something.
          max_edges_per_batch: what bounds the memory: edges and atoms of a batch at most. A larger
            structure is predicted alone.
          members: more than 1 for the stacked parameters of an ensemble (`training.ensemble`).
          say: prints a line, told about compilations and the progress of long predictions.

        Raises:
          ValueError: `max_edges_per_batch` is not positive.
        """
        require_positive(max_edges_per_batch=max_edges_per_batch)
        self.config, self.meaning = config, meaning
        self.params = jax.device_put(params, jax.devices()[0])
        self.with_forces = meaning.has_forces if with_forces is None else with_forces
        self.max_edges_per_batch, self.members = max_edges_per_batch, members
        self._warned_of: set[int] = set()
        self._say = say or (lambda line: None)
        # The keys say whether the structures are periodic.
        self._programs = {False: self._program("prediction", needs_stress=False)}
        self._programs[True] = self._program("prediction with cells", self.with_forces)

    @property
    def cutoff(self) -> float:
        """How far neighbors are at most, Å."""
        return self.config.max_radius

    def describe(self) -> str:
        """Says what is predicted, and in which units."""
        meaning = self.meaning
        parts = [f"{meaning.label} in {meaning.unit}"]
        if meaning.label not in ("energy", "relaxed_energy"):
            parts[0] += ", under the name of energy"
        if self.with_forces:
            parts += ["forces in eV/Å", "for periodic structures stress in eV/Å³"]
        if meaning.displacement_std is not None:
            parts.append("relaxed positions in Å")
        return "; ".join(parts)

    @property
    def compilations(self) -> int:
        """How many times the model has been compiled."""
        return sum(program.count for program in self._programs.values())

    @property
    def compile_seconds(self) -> float:
        """How long that took."""
        return sum(program.seconds for program in self._programs.values())

    def __call__(self, structures: Sequence[Structure]) -> list[Structure]:
        """Predicts.

        Args:
          structures: in any order and of any sizes; labels are not needed.

        Returns:
          As many structures in the same order, see `Potential`.

        Raises:
          UnsuitableStructureError: an element is not in the model's embedding or has no reference
            energy, the model wants tags, no atom of a structure of several has a neighbor, or a
            prediction is not finite. It names the structure.
          TypeError: one structure was given in place of a sequence.
        """
        return list(self.stream(structures))

    def stream(self, structures: Sequence[Structure]) -> Iterator[Structure]:
        """Predicts as `__call__` does, a window of some batches after another.

        So a data set that does not fit into memory can be predicted and written down.

        Args:
          structures: read one after another.

        Raises:
          UnsuitableStructureError: as `__call__`, when it comes to that structure.
          TypeError: as `__call__`.
        """
        if isinstance(structures, Structure):
            raise TypeError("structures: expected a sequence of structures, got a Structure")
        prepared = (
            self._prepare(structure, _name(structures, index))
            for index, structure in enumerate(structures)
        )
        done, start = 0, time.monotonic()
        told = start
        for window in _windows(prepared, _BATCHES_PER_WINDOW * self.max_edges_per_batch):
            yield from self._predict_window(window)
            done, now = done + len(window), time.monotonic()
            if now - told >= _SECONDS_BETWEEN_LINES:
                self._say(f"{done:,} of {len(structures):,}, {done / (now - start):,.1f} a second")
                told = now

    def _program(self, name: str, needs_stress: bool) -> CompiledPerShape:
        predict = make_predict(Equiformer(self.config), self.with_forces, needs_stress)
        if self.members > 1:
            predict = make_ensemble_predict(predict)
        program = jax.jit(lambda params, graph: predict(params, graph, None))
        return CompiledPerShape(program, name, self._say)

    def _prepare(self, structure: Structure, name: str) -> _Prepared:
        """The graph of a structure, once it is clear that the model can predict it."""
        graph = build_graph(structure, self.cutoff, self.config.max_neighbors)
        inputs = ("positions", "atomic_numbers") + ("tags",) * self.config.use_tags
        graph = graph._replace(
            nodes={key: graph.nodes[key] for key in inputs if key in graph.nodes},
            globals={key: graph.globals[key] for key in ("cell",) if key in graph.globals},
        )
        # A free atom is what an energy of atomization refers to; several, all out of reach, are
        # rather positions in another unit.
        if structure.num_atoms > 1:
            try:
                require_edges(graph, name)
            except ValueError as error:
                raise UnsuitableStructureError(f"{error} of {self.cutoff} Å") from error
        try:
            check_graph(graph if graph.n_edge[0] else batch_graphs([graph]), self.config)
            offset = self.meaning.normalizer.offset(structure)
        except ValueError as error:
            raise UnsuitableStructureError(f"{name}: {error}") from error
        self._warn_of_new_elements(structure, name)
        return _Prepared(structure, name, graph, offset)

    def _warn_of_new_elements(self, structure: Structure, name: str) -> None:
        """Says once of each element that the training has not shown it."""
        if self.meaning.elements is None:
            return
        known = {*self.meaning.elements, *self._warned_of}
        new = set(structure.atomic_numbers.tolist()) - known
        if new:
            self._warned_of |= new
            warnings.warn(
                f"{name}: the model was not trained on the atomic numbers {sorted(new)}, only on "
                f"{sorted(self.meaning.elements)}; what it says about them means nothing",
                stacklevel=2,
            )

    def _predict_window(self, window: Sequence[_Prepared]) -> list[Structure]:
        """Predictions in the order of the window."""
        periodic = np.array([each.structure.is_periodic for each in window])
        sizes = GraphSizes.of([each.graph for each in window])
        done: list[tuple[np.ndarray, Any]] = []
        outputs = None
        for kind, program in self._programs.items():
            members = np.flatnonzero(periodic == kind)
            part = GraphSizes(sizes.nodes[members], sizes.edges[members])
            for batch in plan_batches(part, self.max_edges_per_batch):
                chosen = members[batch.indices]
                graphs = [window[index].graph for index in chosen]
                graph = batch_graphs(graphs, **dataclasses.asdict(batch.shape))
                jax.block_until_ready(outputs)  # two batches at once would need twice the memory
                outputs = program(self.params, graph)
                done.append((chosen, outputs))
        found: dict[int, Structure] = {}
        for chosen, outputs in done:
            rows = _split(jax.device_get(outputs), sizes.nodes[chosen])
            for index, row in zip(chosen.tolist(), rows, strict=True):
                found[index] = self._finish(window[index], row)
        return [found[index] for index in range(len(window))]

    def _finish(self, prepared: _Prepared, outputs: Outputs) -> Structure:
        """The structure with the predictions in their units."""
        structure, scale = prepared.structure, self.meaning.normalizer.scale
        energy = prepared.offset + scale * float(outputs["energy"])
        labels: dict[str, Any] = dict.fromkeys(("forces", "stress", "relaxed_positions"))
        if "forces" in outputs:
            labels["forces"] = scale * outputs["forces"].astype(np.float64)
        if "stress" in outputs and has_volume(structure):
            labels["stress"] = scale * outputs["stress"].astype(np.float64)
        if self.meaning.displacement_std is not None:
            displacements = outputs["displacement"].astype(np.float64)
            labels["relaxed_positions"] = relaxed_positions(
                structure, self.meaning.displacement_std * displacements
            )
        properties = dict(structure.properties)
        for name in (name for name in outputs if name.startswith(SPREAD_PREFIX)):
            properties[name] = scale * outputs[name].astype(np.float64)
        relaxed_energy = energy if self.meaning.label == "relaxed_energy" else None
        try:
            return dataclasses.replace(
                structure,
                energy=energy,
                relaxed_energy=relaxed_energy,
                properties=properties,
                **labels,
            )
        except ValueError as error:
            raise UnsuitableStructureError(f"{prepared.name}: predicted {error}") from error


@dataclasses.dataclass(frozen=True, eq=False)
class _Prepared:
    """A structure on its way through the model."""

    structure: Structure
    name: str
    graph: jraph.GraphsTuple
    offset: float

    @property
    def load(self) -> int:
        """What it takes of a window."""
        return max(int(self.graph.n_edge[0]), self.structure.num_atoms)


def _name(structures: Sequence[Structure], index: int) -> str:
    if isinstance(structures, StructureSequence):
        return structures.name_of(index)
    return f"structure {index}"


def _windows(prepared: Iterable[_Prepared], capacity: int) -> Iterator[list[_Prepared]]:
    """Successive structures, closed as soon as they are more than a window wants."""
    window: list[_Prepared] = []
    load = 0
    for each in prepared:
        window.append(each)
        load += each.load
        if load >= capacity:
            yield window
            window, load = [], 0
    if window:
        yield window


def _split(outputs: Outputs, num_atoms: np.ndarray) -> Iterator[Outputs]:
    """The outputs of each structure of a batch."""
    ends = np.cumsum(num_atoms)
    for index, (start, end) in enumerate(zip(ends - num_atoms, ends, strict=True)):
        yield {
            name: values[index] if name in _OF_GRAPHS else values[start:end]
            for name, values in outputs.items()
        }

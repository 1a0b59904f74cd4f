"""`ForceEvaluator`: energies and forces of one system again and again, as in dynamics."""

from __future__ import annotations

import dataclasses
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from equiformer_jax.inference.dynamics.folded_network import (
    NetworkPlan,
    fold_network,
    why_not_foldable,
)
from equiformer_jax.inference.dynamics.general_model import general_energy_and_forces
from equiformer_jax.inference.dynamics.network_energy import (
    energy_and_edge_gradients,
    forces_of_edges,
    stress_of_virial,
    virial_of_edges,
)
from equiformer_jax.inference.dynamics.skin_list import (
    SkinList,
    SkinListShape,
    complete_cell,
    empty_list,
    has_overflowed,
    images_needed,
    select_edges,
    update_if_moved,
)
from equiformer_jax.inference.dynamics.system import (
    check_system,
    first_shape,
    room_for_candidates,
    room_for_pairs,
)
from equiformer_jax.inference.potential import Potential, Say, UnsuitableStructureError
from equiformer_jax.structure import Structure
from equiformer_jax.training.compiled import compile_for

SKIN = 0.5


class Evaluation(NamedTuple):
    """What one evaluation gives.

    Attributes:
      energy: `[]` in eV, without `ForceEvaluator.offset`: what depends on the positions is far
        smaller and would be lost in float32.
      forces: `[N, 3]` in eV/Å.
      stress: `[3, 3]` in eV/Å³, positive under tension; zero for a system that is not periodic.
    """

    energy: jax.Array
    forces: jax.Array
    stress: jax.Array


class TableErrors(NamedTuple):
    """How far off a table of radial functions makes the predictions.

    Attributes:
      energy: in eV.
      forces: the largest error of a component over the largest component.
    """

    energy: float
    forces: float


class ForceEvaluator:
    """Energies and forces of one system at positions that change little from call to call.

        evaluator = ForceEvaluator(potential, structure)
        energy, forces = evaluator(positions)          # eV, eV/Å

    The numbers are those of the potential with a fresh neighbor list, to rounding. It is compiled
    once; neighbor lists are updated on the device (see `skin_list`). If atoms come so close
    together that the arrays for neighbors overflow, these grow and the program is compiled again.

    Inside `jit` or `scan` use the pure function:

        def step(carry, _):
            neighbors, positions, velocities = carry
            found, neighbors = evaluator.evaluate(neighbors, positions)
            ...
        jax.lax.scan(step, (evaluator.neighbors, positions, velocities), length=1000)

    It cannot grow arrays: after an overflow its energies and forces are not numbers, and
    `evaluator.grow(neighbors)` makes room before the run is repeated.

    Models with nonlinear messages and MLP attention, most of the published ones, are folded: see
    `folded_network`. The others run as they are.

    Attributes:
      structure: the system; its positions are the first ones.
      neighbors: the list, as the last call left it.
      offset: eV to add to `Evaluation.energy`.
      table_error: the error of the tabulated radial functions, over the largest one; `None` where
        the networks are evaluated.
    """

    def __init__(
        self,
        potential: Potential,
        structure: Structure,
        *,
        skin: float = SKIN,
        tabulate: bool = True,
        say: Say | None = None,
    ) -> None:
        """Prepares the network and finds the first neighbors; compiles nothing yet.

        Args:
          potential: whose energies and forces they are.
          structure: atoms, cell and first positions.
          skin: Å.
          tabulate: read the radial functions from a table instead of evaluating their networks,
            where they depend on the distance alone and the model can be folded.
          say: prints a line, told about compilations and growth.

        Raises:
          UnsuitableStructureError: the potential has no forces or cannot predict this structure.
          ValueError: the skin is not a length, the model keeps only the nearest neighbors, the
            system is too large for lists on the device, or the radial functions are too rough for a
            table.
        """
        check_system(potential, structure, skin)
        self.structure, self._potential = structure, potential
        self._config = potential.config
        self._say = say or (lambda line: None)
        self._scale = potential.meaning.normalizer.scale
        self.offset = potential.meaning.normalizer.offset(structure)
        self._dtype = jax.tree.leaves(potential.params)[0].dtype
        self.table_error: float | None = None
        config = potential.config
        self._plan: NetworkPlan | None = None
        if why_not_foldable(config) is None:
            use_table = tabulate and not config.use_atom_edge_attr
            self._plan, self._network, self.table_error = fold_network(
                config, potential.params, structure.atomic_numbers, structure.tags, use_table
            )
        else:
            self._network = potential.params
        self.shape = first_shape(structure, config.max_radius, float(skin))
        self.neighbors = empty_list(self.shape, self._dtype)
        self._programs: dict[SkinListShape, Any] = {}

    @property
    def compilations(self) -> int:
        """How many times the program has been compiled."""
        return len(self._programs)

    def __call__(
        self, positions: np.ndarray, cell: np.ndarray | None = None
    ) -> tuple[float, np.ndarray]:
        """Energy and forces.

        Args:
          positions: `[N, 3]` in Å.
          cell: `[3, 3]` in Å; that of the structure if not given.

        Returns:
          The energy in eV and the forces `[N, 3]` in eV/Å, in float64.

        Raises:
          ValueError: positions or cell of another shape, or not finite.
          UnsuitableStructureError: the prediction is not finite.
        """
        energy, forces, _ = self.with_stress(positions, cell)
        return energy, forces

    def with_stress(
        self, positions: np.ndarray, cell: np.ndarray | None = None
    ) -> tuple[float, np.ndarray, np.ndarray | None]:
        """As `__call__`, and the stress `[3, 3]` in eV/Å³; `None` without volume."""
        moved = self._moved(positions, cell)
        if self.shape.is_periodic:
            self._look_far_enough(moved)
        while True:
            found, neighbors = self._program()(self._network, self.neighbors, *self._arrays(moved))
            if not has_overflowed(self.shape, neighbors):
                break
            self.grow(neighbors)
        self.neighbors = neighbors
        energy, forces, stress = (np.asarray(x, np.float64) for x in found)
        if not (np.isfinite(energy) and np.isfinite(forces).all()):
            raise UnsuitableStructureError("the predicted energy or forces are not finite")
        has_stress = self.shape.is_periodic and moved.cell is not None
        has_stress = has_stress and np.linalg.det(np.asarray(moved.cell)) != 0
        return self.offset + float(energy), forces, stress if has_stress else None

    def evaluate(
        self, neighbors: SkinList, positions: jax.Array, cell: jax.Array | None = None
    ) -> tuple[Evaluation, SkinList]:
        """The pure function, for use inside `jit` and `scan`.

        Args:
          neighbors: `self.neighbors` at first, then what the last evaluation gave.
          positions: `[N, 3]` in Å.
          cell: `[3, 3]` in Å; that of the structure if not given.

        Returns:
          Energy, forces and stress, and the neighbors for the next call. After an overflow they are
          not numbers.
        """
        if cell is None:
            _, cell = self._arrays(self.structure)
        return self._evaluate(self.shape, self._network, neighbors, positions, cell)

    def program(self) -> tuple[Any, tuple[Any, SkinList, jax.Array, jax.Array]]:
        """What a call runs, not compiled yet, with the present room for neighbors; to measure it.

        Returns:
          `jit`ted `function(network, neighbors, positions, cell) -> (Evaluation, SkinList)`, and
          its arguments at the first positions.
        """
        shape = self.shape
        function = jax.jit(lambda *arguments: self._evaluate(shape, *arguments))
        return function, (self._network, self.neighbors, *self._arrays(self.structure))

    def table_errors(self, positions: np.ndarray | None = None) -> TableErrors:
        """Compares with the radial networks themselves; compiles the program without a table.

        Args:
          positions: `[N, 3]` in Å; those of the structure if not given.
        """
        positions = self.structure.positions if positions is None else positions
        exact = ForceEvaluator(
            self._potential, self.structure, skin=self.shape.skin, tabulate=False, say=self._say
        )
        (energy, forces), (exact_energy, exact_forces) = self(positions), exact(positions)
        off, largest = np.abs(forces - exact_forces).max(), np.abs(exact_forces).max()
        return TableErrors(abs(energy - exact_energy), float(off / largest) if largest else 0.0)

    def grow(self, neighbors: SkinList) -> None:
        """Makes room for what these neighbors have been found to need; says so.

        The list starts anew, and the next evaluation is compiled once more.
        """
        candidates, pairs = int(neighbors.most_candidates), int(neighbors.most_pairs)
        # Those among candidates that found no place were not counted.
        pairs = int(pairs * max(1.0, candidates / self.shape.num_candidates))
        self.shape = self.shape._replace(
            num_candidates=room_for_candidates(candidates, self.shape.num_candidates),
            num_pairs=room_for_pairs(pairs, self.shape.num_pairs),
        )
        self.neighbors = empty_list(self.shape, self._dtype)
        self._say(
            f"neighbors: {pairs:,} pairs within the cutoff and {candidates:,} with the skin; made "
            f"room for {self.shape.num_pairs:,} and {self.shape.num_candidates:,}"
        )

    def _moved(self, positions: np.ndarray, cell: np.ndarray | None) -> Structure:
        """The structure at other positions; checks them."""
        expected, given = self.structure.positions.shape, np.shape(positions)
        if given != expected:
            raise ValueError(f"positions: expected shape {list(expected)}, got {list(given)}")
        cell = self.structure.cell if cell is None else cell
        return dataclasses.replace(
            self.structure, positions=np.asarray(positions, np.float64), cell=cell
        )

    def _arrays(self, structure: Structure) -> tuple[jax.Array, jax.Array]:
        cell = complete_cell(structure.cell, self.shape.pbc)
        return jnp.asarray(structure.positions, self._dtype), jnp.asarray(cell, self._dtype)

    def _look_far_enough(self, structure: Structure) -> None:
        """A cell that has shrunk may need more images."""
        reach = self.shape.cutoff + self.shape.skin
        needed = images_needed(complete_cell(structure.cell, self.shape.pbc), self.shape.pbc, reach)
        first, second, third = (max(pair) for pair in zip(needed, self.shape.images, strict=True))
        images = (first, second, third)
        if images != self.shape.images:
            self.shape = self.shape._replace(images=images)
            self._say(f"neighbors: the cell is smaller, looking at {images} cells on either side")

    def _program(self) -> Any:
        if self.shape not in self._programs:
            function, arguments = self.program()
            self._say("compiling the force evaluation ...")
            start = time.perf_counter()
            self._programs[self.shape] = compile_for(function, *arguments)
            self._say(f"compiled in {time.perf_counter() - start:.1f} s")
        return self._programs[self.shape]

    def _evaluate(
        self,
        shape: SkinListShape,
        network: Any,
        neighbors: SkinList,
        positions: jax.Array,
        cell: jax.Array,
    ) -> tuple[Evaluation, SkinList]:
        neighbors = update_if_moved(shape, neighbors, positions, cell)
        edges, neighbors = select_edges(shape, neighbors, positions, cell)
        if self._plan is None:
            energy, forces, stress = general_energy_and_forces(
                self._config, network, self.structure, edges, positions, cell
            )
        else:
            energy, gradient = energy_and_edge_gradients(self._plan, network, edges)
            forces = forces_of_edges(gradient, edges, shape.num_atoms)
            stress = stress_of_virial(virial_of_edges(gradient, edges), cell)
        overflowed = has_overflowed(shape, neighbors)
        found = Evaluation(
            *(jnp.where(overflowed, jnp.nan, self._scale * x) for x in (energy, forces, stress))
        )
        return found, neighbors

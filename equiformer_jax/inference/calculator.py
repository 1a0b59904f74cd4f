"""`EquiformerCalculator`: a potential as a calculator of ASE."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import ase
import numpy as np
from ase.calculators.calculator import Calculator, all_changes
from ase.stress import full_3x3_to_voigt_6_stress

from equiformer_jax.inference.dynamics.evaluator import SKIN, ForceEvaluator
from equiformer_jax.inference.potential import Potential, Say, UnsuitableStructureError
from equiformer_jax.structure import Structure, structure_from_ase


class EquiformerCalculator(Calculator):
    """Energy (eV), forces (eV/Å) and, for periodic systems, stress (eV/Å³) of a potential.

        atoms.calc = eqf.EquiformerCalculator(eqf.load("runs/aspirin"))

    Calls for the same atoms at new positions, or in another cell, run one compiled program with a
    neighbor list that is kept (`ForceEvaluator`); other atoms get a program of their own. Models
    that keep only the nearest neighbors, and ensembles, are evaluated by the potential itself.

    Attributes:
      potential: whose predictions they are.
      evaluator: the one of the last call, `None` before the first and where there is none.
    """

    implemented_properties = ["energy", "free_energy", "forces", "stress"]

    def __init__(
        self, potential: Potential, *, skin: float = SKIN, say: Say | None = None, **options: Any
    ) -> None:
        """Compiles nothing yet.

        Args:
          potential: a model that predicts forces.
          skin: of the neighbor list, Å.
          say: prints a line, told about compilations.
          **options: those of ASE's `Calculator`.
        """
        super().__init__(**options)
        self.potential, self._skin, self._say = potential, skin, say
        self.evaluator: ForceEvaluator | None = None

    def calculate(
        self,
        atoms: ase.Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = all_changes,
    ) -> None:
        """Fills `results`; called by ASE.

        Args:
          atoms: the system.
          properties: ignored, all come at once.
          system_changes: what has changed since the last call.

        Raises:
          UnsuitableStructureError: the model cannot predict it.
        """
        super().calculate(atoms, list(properties), list(system_changes))
        if self.atoms is None:
            raise ValueError("atoms: the calculator has none yet, and none were given")
        structure = structure_from_ase(self.atoms)
        energy, forces, stress = self._predict(structure)
        self.results = {"energy": energy, "free_energy": energy, "forces": forces}
        if stress is not None:
            self.results["stress"] = full_3x3_to_voigt_6_stress(stress)

    def _predict(self, structure: Structure) -> tuple[float, np.ndarray, np.ndarray | None]:
        if self._is_for_the_potential(structure):
            (found,) = self.potential([structure])
            if found.energy is None or found.forces is None:
                raise UnsuitableStructureError(
                    f"the potential predicts {self.potential.describe()}, no forces"
                )
            return found.energy, found.forces, found.stress
        if self.evaluator is None or not _same_atoms(self.evaluator.structure, structure):
            self.evaluator = ForceEvaluator(
                self.potential, structure, skin=self._skin, say=self._say
            )
        return self.evaluator.with_stress(structure.positions, structure.cell)

    def _is_for_the_potential(self, structure: Structure) -> bool:
        potential = self.potential
        is_special = potential.config.max_neighbors is not None or potential.members > 1
        return is_special or structure.num_atoms == 1


def _same_atoms(one: Structure, other: Structure) -> bool:
    """Whether they differ in positions and cell at most."""
    return (
        np.array_equal(one.atomic_numbers, other.atomic_numbers)
        and np.array_equal(one.pbc, other.pbc)
        and np.array_equal(_tags(one), _tags(other))
    )


def _tags(structure: Structure) -> list[int]:
    return [] if structure.tags is None else structure.tags.tolist()

"""Energies, and with them forces and stress: MD17 and interatomic potentials in general."""

from __future__ import annotations

import dataclasses

import jax
import jraph

from equiformer_jax.training.objectives.checks import (
    check_choice,
    check_positive,
    check_weights,
    graph_label,
    node_label,
)
from equiformer_jax.training.objectives.errors import ERRORS, error_function, l1_error
from equiformer_jax.training.objectives.means import MILLI
from equiformer_jax.training.objectives.objective import Predictions, Terms

# The metric that goes with each term of the loss.
_METRICS = {
    "energy": "energy_mae_mev",
    "force": "force_mae_mev_per_angstrom",
    "stress": "stress_mae_mev_per_cubic_angstrom",
}
STRESS_ERRORS = {name: ERRORS[name] for name in ("l1", "huber")}


@dataclasses.dataclass(frozen=True)
class EnergyForceObjective:
    """Energies, forces and stress in standardized units (SPEC §12.3).

        loss = w_E mean_graphs |E - y / s| + w_F mean_atoms |F - f / s| + w_S mean |S - sigma / s|

    with the network's `E`, `F` and `S`, labels `y` (eV, relative to the mean energy), `f` (eV/Å)
    and `sigma` (eV/Å³, positive under tension), and the standard deviation `s` of the training
    energies. Without its weight there is no force or stress term, and neither is computed
    (SPEC §12.2). A label given as a virial (eV) is minus the stress times the volume.

    Errors are, by name: `l1` and `mse`, means over components; `l2`, the mean norm of an atom's
    error, for energies the same as `l1`; `huber`, between `mse` and `l1`.

    Attributes:
      energy_std: `s`, eV.
      energy_weight: `w_E`.
      force_weight: `w_F`.
      force_error: `l2` (published), `l1`, `mse` or `huber`.
      energy_error: `l1`, `l2`, `mse` or `huber`.
      stress_weight: `w_S`.
      stress_error: `l1` or `huber`, over all nine components.
      huber_delta: where `huber` goes over from the parabola to lines, in standardized units.
    """

    energy_std: float
    energy_weight: float = 1.0
    force_weight: float = 0.0
    force_error: str = "l2"
    energy_error: str = "l1"
    stress_weight: float = 0.0
    stress_error: str = "l1"
    huber_delta: float = 0.01

    def __post_init__(self) -> None:
        check_positive(energy_std=self.energy_std, huber_delta=self.huber_delta)
        check_weights(
            energy_weight=self.energy_weight,
            force_weight=self.force_weight,
            stress_weight=self.stress_weight,
        )
        check_choice("energy_error", self.energy_error, ERRORS)
        check_choice("force_error", self.force_error, ERRORS)
        check_choice("stress_error", self.stress_error, STRESS_ERRORS)

    @property
    def selection(self) -> dict[str, float]:
        """The mean absolute errors with the weights of the loss (SPEC §12.3)."""
        return {_METRICS[term]: weight for term, weight in self._weights.items()}

    def weights_at(self, step: jax.typing.ArrayLike) -> dict[str, float]:
        """Weights of `energy` and, where they are asked for, `force` and `stress`, at any step."""
        return self._weights

    @property
    def _weights(self) -> dict[str, float]:
        weights = {"energy": self.energy_weight}
        if self.needs_forces:
            weights["force"] = self.force_weight
        if self.needs_stress:
            weights["stress"] = self.stress_weight
        return weights

    @property
    def needs_forces(self) -> bool:
        """Whether the loss has a force term."""
        return self.force_weight > 0

    @property
    def needs_stress(self) -> bool:
        """Whether the loss has a stress term."""
        return self.stress_weight > 0

    def terms(self, predictions: Predictions, graph: jraph.GraphsTuple) -> Terms:
        """Terms of the loss; those of energy and forces have no unit and 1/Å, stress 1/Å³.

        Args:
          predictions: `energy [G]` and, where needed, `forces [N, 3]` and `stress [G, 3, 3]`,
            standardized.
          graph: padded batch with `globals["energy"] [G]` in eV relative to the mean energy and,
            where needed, `nodes["forces"] [N, 3]` in eV/Å and `globals["stress"] [G, 3, 3]` in
            eV/Å³.

        Raises:
          ValueError: a label is missing.
        """
        graphs = jraph.get_graph_padding_mask(graph)
        energies = graph_label(graph, "energy") / self.energy_std
        error = error_function(self.energy_error, self.huber_delta)
        terms = {"energy": error(predictions["energy"], energies, graphs)}
        if self.needs_forces:
            atoms = jraph.get_node_padding_mask(graph)
            forces = node_label(graph, "forces") / self.energy_std
            error = error_function(self.force_error, self.huber_delta)
            terms["force"] = error(predictions["forces"], forces, atoms)
        if self.needs_stress:
            stress = graph_label(graph, "stress") / self.energy_std
            error = error_function(self.stress_error, self.huber_delta)
            terms["stress"] = error(predictions["stress"], stress, graphs)
        return terms

    def metrics(self, predictions: Predictions, graph: jraph.GraphsTuple) -> Terms:
        """Mean absolute errors in physical units, those of forces and stress over components.

        Args:
          predictions: as in `terms`.
          graph: as in `terms`.
        """
        scale, graphs = self.energy_std, jraph.get_graph_padding_mask(graph)
        energy = l1_error(scale * predictions["energy"], graph_label(graph, "energy"), graphs)
        metrics = {_METRICS["energy"]: energy.times(MILLI)}
        if self.needs_forces:
            atoms = jraph.get_node_padding_mask(graph)
            force = l1_error(scale * predictions["forces"], node_label(graph, "forces"), atoms)
            metrics[_METRICS["force"]] = force.times(MILLI)
        if self.needs_stress:
            stress = l1_error(scale * predictions["stress"], graph_label(graph, "stress"), graphs)
            metrics[_METRICS["stress"]] = stress.times(MILLI)
        return metrics

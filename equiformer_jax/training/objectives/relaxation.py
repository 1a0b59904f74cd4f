"""From the initial structure to the relaxed energy and positions: OC20 IS2RE with IS2RS."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

import jax
import jax.numpy as jnp
import jraph

from equiformer_jax.training.objectives.checks import (
    check_choice,
    check_positive,
    check_weights,
    graph_label,
    node_label,
)
from equiformer_jax.training.objectives.errors import (
    ErrorFunction,
    l1_error,
    share_within,
    summed_l1_error,
)
from equiformer_jax.training.objectives.objective import Predictions, Terms

ENERGY_THRESHOLD = 0.02  # eV, of the metric `energy_within_threshold`
DISPLACEMENT_ERRORS: Mapping[str, ErrorFunction] = {
    "sum_over_components": summed_l1_error,
    "mean_over_components": l1_error,
}


@dataclasses.dataclass(frozen=True)
class RelaxationObjective:
    """Relaxed energy and, as an auxiliary task, displacements to the relaxed positions (SPEC §8.3).

        loss = mean_graphs |E - y / std| + w(t) mean_atoms |D - d / s|_1
        w(t) = w + (w_final - w) min(1, t / total_steps)

    with the network's `E` and `D`, relaxed energies `y` (eV, relative to the mean), and
    displacements `d` (Å) from the positions to the relaxed ones, of the atoms with a tag above 0:
    those of the surface and of the adsorbate (SPEC §12.4). Without `s` there is no auxiliary task.

    Attributes:
      energy_std: standard deviation of the relaxed energies, eV.
      displacement_std: `s`, Å; `None` for energies alone.
      total_steps: steps of the run, over which the weight of the displacements falls.
      displacement_weight: `w`, of the first step.
      final_displacement_weight: `w_final`, at the end of the run.
      displacement_error: `sum_over_components`, averaged over atoms, as the published runs on
        several devices have it, or `mean_over_components`, a third of that, as a run of theirs in
        one process has it.
    """

    energy_std: float
    displacement_std: float | None = None
    total_steps: int | None = None
    displacement_weight: float = 15.0
    final_displacement_weight: float = 1.0
    displacement_error: str = "sum_over_components"

    needs_forces: ClassVar[bool] = False
    needs_stress: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_positive(energy_std=self.energy_std)
        check_weights(
            displacement_weight=self.displacement_weight,
            final_displacement_weight=self.final_displacement_weight,
        )
        check_choice("displacement_error", self.displacement_error, DISPLACEMENT_ERRORS)
        if self.displacement_std is not None:
            check_positive(displacement_std=self.displacement_std)
            if self.total_steps is None or self.total_steps < 1:
                raise ValueError(
                    f"total_steps={self.total_steps}; expected at least 1, over which the weight "
                    "of the displacements falls"
                )

    @property
    def selection(self) -> dict[str, float]:
        """The energy alone: the published runs choose their weights by its error."""
        return {"energy_mae_ev": 1.0}

    def weights_at(self, step: jax.typing.ArrayLike) -> dict[str, jax.typing.ArrayLike]:
        """Weights of the terms `energy` and, with the auxiliary task, `displacement`."""
        weights: dict[str, jax.typing.ArrayLike] = {"energy": 1.0}
        if self.displacement_std is not None and self.total_steps is not None:
            time = jnp.asarray(step).astype(jnp.result_type(float)) / self.total_steps
            change = self.final_displacement_weight - self.displacement_weight
            weights["displacement"] = self.displacement_weight + change * jnp.minimum(1.0, time)
        return weights

    def terms(self, predictions: Predictions, graph: jraph.GraphsTuple) -> Terms:
        """Terms of the loss, dimensionless.

        Args:
          predictions: `energy [G]` and, with the auxiliary task, `displacement [N, 3]`,
            standardized.
          graph: padded batch with `globals["energy"] [G]`, the relaxed energy in eV relative to the
            mean and, with the auxiliary task, `nodes["positions"] [N, 3]`,
            `nodes["relaxed_positions"] [N, 3]` in Å, the nearest images, and `nodes["tags"] [N]`.

        Raises:
          ValueError: a label is missing.
        """
        energies = graph_label(graph, "energy") / self.energy_std
        graphs = jraph.get_graph_padding_mask(graph)
        terms = {"energy": l1_error(predictions["energy"], energies, graphs)}
        if self.displacement_std is not None:
            error = DISPLACEMENT_ERRORS[self.displacement_error]
            terms["displacement"] = error(
                predictions["displacement"],
                _displacements(graph) / self.displacement_std,
                _moving_atoms(graph),
            )
        return terms

    def metrics(self, predictions: Predictions, graph: jraph.GraphsTuple) -> Terms:
        """Errors of the relaxed energy, and of the displacements over atoms and components.

        Args:
          predictions: as in `terms`.
          graph: as in `terms`.

        Returns:
          `energy_mae_ev`, `energy_within_threshold`, the share of structures within 0.02 eV, and
          with the auxiliary task `displacement_mae_angstrom`.
        """
        energy = self.energy_std * predictions["energy"]
        labels = graph_label(graph, "energy")
        graphs = jraph.get_graph_padding_mask(graph)
        metrics = {
            "energy_mae_ev": l1_error(energy, labels, graphs),
            "energy_within_threshold": share_within(energy, labels, graphs, ENERGY_THRESHOLD),
        }
        if self.displacement_std is not None:
            metrics["displacement_mae_angstrom"] = l1_error(
                self.displacement_std * predictions["displacement"],
                _displacements(graph),
                _moving_atoms(graph),
            )
        return metrics


def _displacements(graph: jraph.GraphsTuple) -> jax.Array:
    """`[N, 3]`, Å."""
    return node_label(graph, "relaxed_positions") - graph.nodes["positions"]


def _moving_atoms(graph: jraph.GraphsTuple) -> jax.Array:
    return jraph.get_node_padding_mask(graph) & (node_label(graph, "tags") > 0)

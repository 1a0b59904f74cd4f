"""Energies and forces of structures some of whose atoms were moved at random: DeNS."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
import jraph

from equiformer_jax.training.objectives.checks import (
    check_positive,
    check_weights,
    graph_label,
    node_label,
)
from equiformer_jax.training.objectives.errors import l1_error, l2_error
from equiformer_jax.training.objectives.means import MILLI
from equiformer_jax.training.objectives.objective import Predictions, Terms


@dataclasses.dataclass(frozen=True)
class DenoisingObjective:
    """Energies, forces of atoms in their places, and the noise of those moved (SPEC §9).

        loss = w_E mean_graphs |E - y / s| + w_F mean_kept |F - f / s|
             + w_D(t) mean_moved |D - noise / noise_std|
        w_D(t) = w_D (1 - epoch / num_epochs), epochs counted from 0

    with the network's `E`, `F` and `D`, labels `y` (eV, relative to the mean energy, of the
    structure before atoms were moved) and `f` (eV/Å), and the standard deviation `s` of the
    training energies. A term without atoms adds nothing. Without a `noise_mask` in the batch no
    atom was moved, as in evaluations: energies and forces are left.

    Attributes:
      energy_std: `s`, eV.
      num_epochs: epochs of the run.
      steps_per_epoch: training steps in an epoch.
      energy_weight: `w_E`.
      force_weight: `w_F`.
      denoising_weight: `w_D` of the first epoch.
      noise_std: standard deviation of a component of the noise, Å.
    """

    energy_std: float
    num_epochs: int
    steps_per_epoch: int
    energy_weight: float = 1.0
    force_weight: float = 80.0
    denoising_weight: float = 5.0
    noise_std: float = 0.05

    needs_forces: ClassVar[bool] = True
    needs_stress: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_positive(
            energy_std=self.energy_std,
            num_epochs=self.num_epochs,
            steps_per_epoch=self.steps_per_epoch,
            noise_std=self.noise_std,
        )
        check_weights(
            energy_weight=self.energy_weight,
            force_weight=self.force_weight,
            denoising_weight=self.denoising_weight,
        )

    @property
    def selection(self) -> dict[str, float]:
        """Errors of energies and forces: evaluations move no atoms."""
        return {
            "energy_mae_mev": self.energy_weight,
            "force_mae_mev_per_angstrom": self.force_weight,
        }

    def weights_at(self, step: jax.typing.ArrayLike) -> dict[str, jax.typing.ArrayLike]:
        """Weights of `energy`, `force` and `denoising`, which falls from epoch to epoch."""
        epoch = jnp.minimum(jnp.asarray(step) // self.steps_per_epoch, self.num_epochs)
        left = 1 - epoch.astype(jnp.result_type(float)) / self.num_epochs
        return {
            "energy": self.energy_weight,
            "force": self.force_weight,
            "denoising": self.denoising_weight * left,
        }

    def terms(self, predictions: Predictions, graph: jraph.GraphsTuple) -> Terms:
        """Terms of the loss; `denoising` only where the batch has a `noise_mask`.

        Args:
          predictions: `energy [G]`, `forces [N, 3]` and, with a `noise_mask`, `denoising [N, 3]`,
            standardized.
          graph: padded batch with `globals["energy"] [G]` in eV relative to the mean energy,
            `nodes["forces"] [N, 3]` in eV/Å and, where atoms were moved, `nodes["noise_mask"] [N]`,
            which of them, and `nodes["noise"] [N, 3]`, by how many Å.

        Raises:
          ValueError: a label is missing.
        """
        kept, moved = _kept_and_moved(graph)
        energies = graph_label(graph, "energy") / self.energy_std
        forces = node_label(graph, "forces") / self.energy_std
        graphs = jraph.get_graph_padding_mask(graph)
        terms = {
            "energy": l2_error(predictions["energy"], energies, graphs),
            "force": l2_error(predictions["forces"], forces, kept),
        }
        if moved is not None:
            noise = node_label(graph, "noise") / self.noise_std
            terms["denoising"] = l2_error(predictions["denoising"], noise, moved)
        return terms

    def metrics(self, predictions: Predictions, graph: jraph.GraphsTuple) -> Terms:
        """Mean absolute errors in physical units, those of vectors over atoms and components.

        Args:
          predictions: as in `terms`.
          graph: as in `terms`.
        """
        kept, moved = _kept_and_moved(graph)
        scale, graphs = self.energy_std, jraph.get_graph_padding_mask(graph)
        energy = l1_error(scale * predictions["energy"], graph_label(graph, "energy"), graphs)
        force = l1_error(scale * predictions["forces"], node_label(graph, "forces"), kept)
        metrics = {
            "energy_mae_mev": energy.times(MILLI),
            "force_mae_mev_per_angstrom": force.times(MILLI),
        }
        if moved is not None:
            metrics["noise_mae_angstrom"] = l1_error(
                self.noise_std * predictions["denoising"], node_label(graph, "noise"), moved
            )
        return metrics


def _kept_and_moved(graph: jraph.GraphsTuple) -> tuple[jax.Array, jax.Array | None]:
    """Masks `[N]` of the atoms in their places and of those that were moved, padding in neither."""
    atoms = jraph.get_node_padding_mask(graph)
    if "noise_mask" not in graph.nodes:
        return atoms, None
    noisy = graph.nodes["noise_mask"].astype(bool)
    return atoms & ~noisy, atoms & noisy

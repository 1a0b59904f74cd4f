"""What a training minimizes and what it reports, as sums and counts.

A mean over a batch that lies on several devices is the sum of their sums over the sum of their
counts, never the mean of their means: devices hold different numbers of atoms. Objectives therefore
give sums and counts, and the step adds them up over the devices.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Protocol

import flax.struct
import jax
import jax.numpy as jnp
import jraph

MILLI = 1000.0


@flax.struct.dataclass
class Mean:
    """A mean that is not divided yet.

    Attributes:
      total: scalar, sum over the entries that count.
      count: scalar, how many they are.
    """

    total: jax.Array
    count: jax.Array

    def __add__(self, other: Mean) -> Mean:
        return Mean(self.total + other.total, self.count + other.count)

    @property
    def value(self) -> jax.Array:
        """The mean; 0 where nothing counts."""
        return self.total / jnp.maximum(self.count, 1)


def masked_mean(values: jax.Array, mask: jax.Array) -> Mean:
    """Sum and count of the rows of `values` that `mask` keeps.

    Args:
      values: `[n, ...]`; values of padding must be finite, or come in through `difference`.
      mask: `[n]` bool.
    """
    keep = mask.reshape(mask.shape + (1,) * (values.ndim - 1))
    total = jnp.sum(jnp.where(keep, values, 0))
    per_row = values.size // values.shape[0]
    return Mean(total, jnp.sum(mask) * per_row)


def _difference(predicted: jax.Array, target: jax.Array, mask: jax.Array) -> jax.Array:
    """`predicted - target` with zeros in padding, which also keeps its gradient clean."""
    keep = mask.reshape(mask.shape + (1,) * (predicted.ndim - 1))
    return jnp.where(keep, predicted - target, 0)


def l1_error(predicted: jax.Array, target: jax.Array, mask: jax.Array) -> Mean:
    """Absolute errors of all components: `sum_i |p_i - t_i|` over the rows that count."""
    return masked_mean(jnp.abs(_difference(predicted, target, mask)), mask)


def l2_error(predicted: jax.Array, target: jax.Array, mask: jax.Array) -> Mean:
    """Norms of the row errors, "L2MAE": `sum_i |p_i - t_i|_2` (SPEC §12.3).

    The norm has no gradient at zero; an exact prediction counts as one with gradient zero, as it
    does in the published training.

    Args:
      predicted: `[n, d]`.
      target: `[n, d]`.
      mask: `[n]` bool.
    """
    square = jnp.sum(_difference(predicted, target, mask) ** 2, axis=-1)
    positive = square > 0
    norm = jnp.where(positive, jnp.sqrt(jnp.where(positive, square, 1.0)), 0.0)
    return masked_mean(norm, mask)


FORCE_ERRORS: Mapping[str, Callable[[jax.Array, jax.Array, jax.Array], Mean]] = {
    "l1": l1_error,
    "l2": l2_error,
}


class Objective(Protocol):
    """The interface of everything that can be trained."""

    @property
    def weights(self) -> Mapping[str, float]:
        """Weight of each term in the loss."""
        ...

    @property
    def needs_forces(self) -> bool:
        """Whether predictions must hold `forces`."""
        ...

    def terms(
        self, predictions: Mapping[str, jax.Array], graph: jraph.GraphsTuple
    ) -> dict[str, Mean]:
        """Terms of the loss; the loss is `sum_k weights[k] terms[k].value`."""
        ...

    def metrics(
        self, predictions: Mapping[str, jax.Array], graph: jraph.GraphsTuple
    ) -> dict[str, Mean]:
        """What people want to read, the unit in the name."""
        ...


@dataclasses.dataclass(frozen=True)
class EnergyForceObjective:
    """Energies and forces in standardized units (SPEC §12.3).

        loss = w_E mean_graphs |E - y / s| + w_F mean_atoms |F - f / s|

    with the network's `E` and `F`, labels `y` (eV, relative to the mean energy) and `f` (eV/Å), and
    the standard deviation `s` of the training energies. Without a force weight there is no force
    term and no force is computed (SPEC §12.2).

    Attributes:
      energy_std: `s`, eV.
      energy_weight: `w_E`.
      force_weight: `w_F`.
      force_error: `l2`, the norm of each atom's error, or `l1`, the mean of its components.
    """

    energy_std: float
    energy_weight: float = 1.0
    force_weight: float = 0.0
    force_error: str = "l2"

    def __post_init__(self) -> None:
        if not self.energy_std > 0:
            raise ValueError(f"energy_std={self.energy_std}; expected a positive number of eV")
        if self.energy_weight < 0 or self.force_weight < 0:
            raise ValueError(
                f"energy_weight={self.energy_weight}, force_weight={self.force_weight}; "
                "expected numbers of at least 0"
            )
        if self.force_error not in FORCE_ERRORS:
            raise ValueError(
                f"force_error={self.force_error!r}; expected one of {sorted(FORCE_ERRORS)}"
            )

    @property
    def weights(self) -> dict[str, float]:
        """Weights of the terms `energy` and, with forces, `force`."""
        weights = {"energy": self.energy_weight}
        return weights | {"force": self.force_weight} if self.needs_forces else weights

    @property
    def needs_forces(self) -> bool:
        """Whether the loss has a force term."""
        return self.force_weight > 0

    def terms(
        self, predictions: Mapping[str, jax.Array], graph: jraph.GraphsTuple
    ) -> dict[str, Mean]:
        """Terms of the loss, dimensionless.

        Args:
          predictions: `energy [G]` and, with forces, `forces [N, 3]`, standardized.
          graph: padded batch with `globals["energy"] [G]` in eV relative to the mean energy and,
            with forces, `nodes["forces"] [N, 3]` in eV/Å.
        """
        energies = graph.globals["energy"] / self.energy_std
        terms = {
            "energy": l1_error(predictions["energy"], energies, jraph.get_graph_padding_mask(graph))
        }
        if self.needs_forces:
            forces = graph.nodes["forces"] / self.energy_std
            error = FORCE_ERRORS[self.force_error]
            terms["force"] = error(
                predictions["forces"], forces, jraph.get_node_padding_mask(graph)
            )
        return terms

    def metrics(
        self, predictions: Mapping[str, jax.Array], graph: jraph.GraphsTuple
    ) -> dict[str, Mean]:
        """Mean absolute errors in physical units; that of forces over atoms and components.

        Args:
          predictions: as in `terms`.
          graph: as in `terms`.
        """
        energy, atoms = self.energy_std * predictions["energy"], jraph.get_node_padding_mask(graph)
        graphs = jraph.get_graph_padding_mask(graph)
        metrics = {
            "energy_mae_mev": _milli(l1_error(energy, graph.globals["energy"], graphs)),
        }
        if self.needs_forces:
            forces = self.energy_std * predictions["forces"]
            metrics["force_mae_mev_per_angstrom"] = _milli(
                l1_error(forces, graph.nodes["forces"], atoms)
            )
        return metrics


def _milli(mean: Mean) -> Mean:
    return Mean(MILLI * mean.total, mean.count)


def weighted_loss(terms: Mapping[str, Mean], weights: Mapping[str, float]) -> jax.Array:
    """`sum_k weights[k] terms[k].value`, a scalar."""
    return jnp.sum(jnp.stack([weights[name] * term.value for name, term in terms.items()]))

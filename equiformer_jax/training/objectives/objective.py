"""What a training step and an evaluation need of an objective."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import jax
import jax.numpy as jnp
import jraph

from equiformer_jax.training.objectives.means import Mean

Predictions = Mapping[str, jax.Array]
Terms = dict[str, Mean]


class Objective(Protocol):
    """The interface of everything that can be trained."""

    @property
    def needs_forces(self) -> bool:
        """Whether predictions must hold `forces`."""
        ...

    @property
    def needs_stress(self) -> bool:
        """Whether predictions must hold `stress`."""
        ...

    @property
    def selection(self) -> Mapping[str, float]:
        """The metrics whose weighted sum on the validation split the best weights have lowest."""
        ...

    def weights_at(self, step: jax.typing.ArrayLike) -> Mapping[str, jax.typing.ArrayLike]:
        """Weight of each term in the loss of a training step.

        Args:
          step: scalar, number of steps done before; may be traced.
        """
        ...

    def terms(self, predictions: Predictions, graph: jraph.GraphsTuple) -> Terms:
        """Terms of the loss, which is `sum_k weights_at(step)[k] terms[k].value`.

        What a term counts depends on the graph alone, never on the values of the predictions.
        """
        ...

    def metrics(self, predictions: Predictions, graph: jraph.GraphsTuple) -> Terms:
        """What people want to read, the unit in the name."""
        ...


def weighted_loss(
    terms: Mapping[str, Mean], weights: Mapping[str, jax.typing.ArrayLike]
) -> jax.Array:
    """`sum_k weights[k] terms[k].value`, a scalar; terms that count nothing add nothing."""
    return jnp.sum(jnp.stack([weights[name] * term.value for name, term in terms.items()]))

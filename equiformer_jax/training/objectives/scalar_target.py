"""One number for each structure: the targets of QM9."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import jax
import jraph

from equiformer_jax.training.objectives.checks import (
    check_positive,
    graph_label,
)
from equiformer_jax.training.objectives.errors import l1_error
from equiformer_jax.training.objectives.objective import Predictions, Terms


@dataclasses.dataclass(frozen=True)
class ScalarTargetObjective:
    """A standardized target, in absolute errors (SPEC §12.2).

        loss = mean_graphs |E - y / std|

    with the network's output `E` for each graph and labels `y`, relative to the mean.

    Attributes:
      std: standard deviation of the training targets, in the target's unit; 1 for targets that are
        not standardized.
      metric_name: name of the mean absolute error, its unit in it.
      metric_scale: metric units in a unit of the target: 1000 for a target in eV and a metric in
        meV.
    """

    std: float
    metric_name: str = "target_mae"
    metric_scale: float = 1.0

    needs_forces: ClassVar[bool] = False
    needs_stress: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_positive(std=self.std, metric_scale=self.metric_scale)

    @property
    def selection(self) -> dict[str, float]:
        """The only metric."""
        return {self.metric_name: 1.0}

    def weights_at(self, step: jax.typing.ArrayLike) -> dict[str, float]:
        """The only term is `target`."""
        return {"target": 1.0}

    def terms(self, predictions: Predictions, graph: jraph.GraphsTuple) -> Terms:
        """The error of the standardized target.

        Args:
          predictions: `energy [G]`, the model's output for each graph, standardized.
          graph: padded batch with `globals["energy"] [G]`, where readers put the target, in its
            unit and relative to its mean.

        Raises:
          ValueError: the label is missing.
        """
        targets = graph_label(graph, "energy") / self.std
        mask = jraph.get_graph_padding_mask(graph)
        return {"target": l1_error(predictions["energy"], targets, mask)}

    def metrics(self, predictions: Predictions, graph: jraph.GraphsTuple) -> Terms:
        """The mean absolute error in the metric's unit; arguments as in `terms`."""
        values = self.std * predictions["energy"]
        mask = jraph.get_graph_padding_mask(graph)
        error = l1_error(values, graph_label(graph, "energy"), mask)
        return {self.metric_name: error.times(self.metric_scale)}

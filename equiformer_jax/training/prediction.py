"""The model as training sees it: a function of its parameters, with the derivatives of a loss."""

from __future__ import annotations

from typing import Protocol

import jax
import jraph

from equiformer_jax.models.equiformer import Equiformer, apply_model
from equiformer_jax.models.potential import Outputs, with_derivatives
from equiformer_jax.training.objectives import Predictions
from equiformer_jax.training.state import Params


class Predict(Protocol):
    """A model as the steps see it.

    Its predictions are `energy [G]` and, where asked for, `forces [N, 3]` and `stress [G, 3, 3]`,
    and what further heads of the model give (`Equiformer.__call__`), all in network units.
    """

    def __call__(
        self, params: Params, graph: jraph.GraphsTuple, dropout_key: jax.Array | None
    ) -> Predictions:
        """Predicts in network units; without a key, dropout is off."""
        ...


def make_predict(
    model: Equiformer,
    needs_forces: bool,
    needs_stress: bool = False,
    edge_axis: str | None = None,
) -> Predict:
    """The model as a function of its parameters.

    Args:
      model: the network.
      needs_forces: whether to differentiate the energy by the positions.
      needs_stress: whether to differentiate it by a strain of positions and cell too, which gives
        forces and stress; batches then need cells.
      edge_axis: the mesh axis over which the edges of a batch are divided
        (`edge_parts.edge_axis_of`); the function is for use inside `shard_map` then.

    Returns:
      The function. Of a model with a denoising head it gives `denoising [N, 3]` only for batches
      with a `noise_mask` (SPEC §9).
    """
    if edge_axis is not None:
        model = model.clone(edge_axis=edge_axis)

    def predict(
        params: Params, graph: jraph.GraphsTuple, dropout_key: jax.Array | None
    ) -> Predictions:
        variables = {"params": params}
        deterministic = dropout_key is None
        rngs = None if dropout_key is None else {"dropout": dropout_key}

        def outputs(graph: jraph.GraphsTuple) -> Outputs:
            found = apply_model(model, variables, graph, deterministic, rngs)
            if "noise_mask" not in graph.nodes:
                found = {name: value for name, value in found.items() if name != "denoising"}
            return found

        if needs_forces or needs_stress:
            return with_derivatives(outputs, graph, needs_stress, edge_axis)
        return outputs(graph)

    return predict

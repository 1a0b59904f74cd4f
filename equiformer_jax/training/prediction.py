"""The model as training sees it: a function of its parameters, with the derivatives of a loss."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import jax
import jax.numpy as jnp
import jraph

from equiformer_jax.models.equiformer import Equiformer, apply_model
from equiformer_jax.models.potential import energy_and_forces
from equiformer_jax.ops.segment import graph_index_of_nodes
from equiformer_jax.training.objectives import Predictions
from equiformer_jax.training.state import Params

Outputs = dict[str, jax.Array]


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


def make_predict(model: Equiformer, needs_forces: bool, needs_stress: bool = False) -> Predict:
    """The model as a function of its parameters.

    Args:
      model: the network.
      needs_forces: whether to differentiate the energy by the positions.
      needs_stress: whether to differentiate it by a strain of positions and cell too, which gives
        forces and stress; batches then need cells.

    Returns:
      The function. Of a model with a denoising head it gives `denoising [N, 3]` only for batches
      with a `noise_mask` (SPEC §9).
    """
    config = model.config
    has_vector_head = config.use_denoising or config.use_auxiliary_task

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

        if needs_stress or (needs_forces and has_vector_head):
            return _with_derivatives(outputs, graph, needs_stress)
        if needs_forces:
            energy, forces = energy_and_forces(model, variables, graph, deterministic, rngs)
            return {"energy": energy, "forces": forces}
        return outputs(graph)

    return predict


def _with_derivatives(
    outputs: Callable[[jraph.GraphsTuple], Outputs], graph: jraph.GraphsTuple, needs_stress: bool
) -> Outputs:
    """The outputs, `forces` and, where needed, `stress` as in `potential`, in one pass.

    Raises:
      ValueError: stress is needed and the graph has no cells.
    """
    if needs_stress and "cell" not in (graph.globals or {}):
        raise ValueError("graph.globals has no 'cell'; stress needs periodic systems")
    positions = jnp.asarray(graph.nodes["positions"])
    strain = jnp.zeros_like(graph.globals["cell"]) if needs_stress else None

    def total(positions: jax.Array, strain: jax.Array | None) -> tuple[jax.Array, Outputs]:
        moved = graph._replace(nodes={**graph.nodes, "positions": positions})
        found = outputs(moved if strain is None else _strained(moved, strain))
        return jnp.sum(found["energy"]), found

    (gradient, virial), found = jax.grad(total, argnums=(0, 1), has_aux=True)(positions, strain)
    found = {**found, "forces": -gradient}
    if needs_stress:
        volume = jnp.abs(jnp.linalg.det(graph.globals["cell"]))[:, None, None]
        found["stress"] = jnp.where(volume > 0, virial / jnp.where(volume > 0, volume, 1), 0)
    return found


def _strained(graph: jraph.GraphsTuple, strain: jax.Array) -> jraph.GraphsTuple:
    """The graph under the symmetric part of a strain `[G, 3, 3]` of positions and cells."""
    positions, cell = graph.nodes["positions"], graph.globals["cell"]
    deformation = jnp.eye(3, dtype=positions.dtype) + (strain + jnp.swapaxes(strain, 1, 2)) / 2
    of_node = deformation[graph_index_of_nodes(graph.n_node, positions.shape[0])]
    return graph._replace(
        nodes={**graph.nodes, "positions": jnp.einsum("ni,nij->nj", positions, of_node)},
        globals={**graph.globals, "cell": cell @ deformation},
    )

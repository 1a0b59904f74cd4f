"""Energies and their derivatives: forces and stress."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import jraph

from equiformer_jax.models.checks import check_graph
from equiformer_jax.models.equiformer import Equiformer, apply_model
from equiformer_jax.ops.segment import graph_index_of_nodes, mean_over_parts

Outputs = dict[str, jax.Array]


def energy_and_forces(
    model: Equiformer,
    variables: Any,
    graph: jraph.GraphsTuple,
    deterministic: bool = True,
    rngs: dict[str, jax.Array] | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Energies and the forces that are exactly their negative gradient (specification section 7).

    Compiled once per batch shape, also when called outside `jit`.

    Args:
      model: the network.
      variables: its parameters.
      graph: a batch.
      deterministic: no dropout.
      rngs: random streams, when not deterministic.

    Returns:
      Energies `[G]` in network units and forces `[N, 3]` in network units per angstrom.

    Raises:
      ValueError: the graph does not fit the model.
    """
    check_graph(graph, model.config)
    return _energy_and_forces(model, variables, graph, deterministic, rngs)


@functools.partial(jax.jit, static_argnums=(0, 3))
def _energy_and_forces(
    model: Equiformer, variables: Any, graph: jraph.GraphsTuple, deterministic: bool, rngs: Any
) -> tuple[jax.Array, jax.Array]:
    def outputs(moved: jraph.GraphsTuple) -> Outputs:
        return apply_model(model, variables, moved, deterministic, rngs)

    found = with_derivatives(outputs, graph, edge_axis=model.edge_axis)
    return found["energy"], found["forces"]


def energy_forces_and_stress(
    model: Equiformer, variables: Any, graph: jraph.GraphsTuple
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Energies, forces and stress of periodic systems.

    The stress is the derivative of the energy with respect to a symmetric strain of positions and
    cell, over the volume: positive under tension, the sign of ASE.

    Args:
      model: the network.
      variables: its parameters.
      graph: a batch with cells.

    Returns:
      Energies `[G]`, forces `[N, 3]` and stress `[G, 3, 3]` (network units per cubic angstrom; zero
      for a graph without volume, such as padding).

    Raises:
      ValueError: the graph has no cells, or does not fit the model.
    """
    if "cell" not in (graph.globals or {}):
        raise ValueError(
            "energy_forces_and_stress: graph.globals has no 'cell'; stress needs a periodic system"
        )
    check_graph(graph, model.config)
    return _energy_forces_and_stress(model, variables, graph)


@functools.partial(jax.jit, static_argnums=0)
def _energy_forces_and_stress(
    model: Equiformer, variables: Any, graph: jraph.GraphsTuple
) -> tuple[jax.Array, jax.Array, jax.Array]:
    def outputs(strained: jraph.GraphsTuple) -> Outputs:
        return apply_model(model, variables, strained)

    found = with_derivatives(outputs, graph, True, model.edge_axis)
    return found["energy"], found["forces"], found["stress"]


def with_derivatives(
    outputs: Callable[[jraph.GraphsTuple], Outputs],
    graph: jraph.GraphsTuple,
    needs_stress: bool = False,
    edge_axis: str | None = None,
) -> Outputs:
    """The outputs of a model and the derivatives of its energy, in one pass.

    Args:
      outputs: the model; gives `energy [G]` and whatever else, of a graph like this one.
      graph: a batch, with cells if stress is needed.
      needs_stress: differentiate by a strain of positions and cell, too.
      edge_axis: the mesh axis over which the edges are divided, if they are (`Equiformer`).

    Returns:
      The outputs, `forces [N, 3]` and, if needed, `stress [G, 3, 3]` as in
      `energy_forces_and_stress`.

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

    derivatives, found = jax.grad(total, argnums=(0, 1), has_aux=True)(positions, strain)
    gradient, virial = mean_over_parts(derivatives, edge_axis)
    found = {**found, "forces": -gradient}
    if needs_stress:
        volume = jnp.abs(jnp.linalg.det(graph.globals["cell"]))[:, None, None]
        found["stress"] = jnp.where(volume > 0, virial / jnp.where(volume > 0, volume, 1), 0)
    return found


def _strained(graph: jraph.GraphsTuple, strain: jax.Array) -> jraph.GraphsTuple:
    """The graph under the symmetric part of a strain `[G, 3, 3]` of positions and cells."""
    positions, cell = graph.nodes["positions"], jnp.asarray(graph.globals["cell"])
    deformation = jnp.eye(3, dtype=positions.dtype) + (strain + jnp.swapaxes(strain, 1, 2)) / 2
    of_node = deformation[graph_index_of_nodes(graph.n_node, positions.shape[0])]
    return graph._replace(
        nodes={**graph.nodes, "positions": jnp.einsum("ni,nij->nj", positions, of_node)},
        globals={**graph.globals, "cell": cell @ deformation},
    )

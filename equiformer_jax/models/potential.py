"""Energies and their derivatives: forces and stress."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import jraph

from equiformer_jax.models.checks import check_graph
from equiformer_jax.models.equiformer import Equiformer, apply_model
from equiformer_jax.ops.segment import graph_index_of_nodes


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
    def total(positions: jax.Array) -> tuple[jax.Array, jax.Array]:
        moved = graph._replace(nodes={**graph.nodes, "positions": positions})
        energy = apply_model(model, variables, moved, deterministic, rngs)["energy"]
        return jnp.sum(energy), energy

    gradient, energy = jax.grad(total, has_aux=True)(jnp.asarray(graph.nodes["positions"]))
    return energy, -gradient


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
    positions, cell = jnp.asarray(graph.nodes["positions"]), jnp.asarray(graph.globals["cell"])
    graph_index = graph_index_of_nodes(graph.n_node, positions.shape[0])

    def total(positions: jax.Array, strain: jax.Array) -> tuple[jax.Array, jax.Array]:
        deformation = jnp.eye(3, dtype=positions.dtype) + (strain + jnp.swapaxes(strain, 1, 2)) / 2
        strained = graph._replace(
            nodes={
                **graph.nodes,
                "positions": jnp.einsum("ni,nij->nj", positions, deformation[graph_index]),
            },
            globals={**graph.globals, "cell": cell @ deformation},
        )
        energy = apply_model(model, variables, strained)["energy"]
        return jnp.sum(energy), energy

    strain = jnp.zeros_like(cell)
    (gradient, virial), energy = jax.grad(total, argnums=(0, 1), has_aux=True)(positions, strain)
    volume = jnp.abs(jnp.linalg.det(cell))[:, None, None]
    stress = jnp.where(volume > 0, virial / jnp.where(volume > 0, volume, 1), 0)
    return energy, -gradient, stress

"""Force evaluation through the model as it is, for those that cannot be folded."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import jraph

from equiformer_jax.inference.dynamics.skin_list import Edges
from equiformer_jax.models.config import EquiformerConfig
from equiformer_jax.models.equiformer import Equiformer, apply_model
from equiformer_jax.models.potential import with_derivatives
from equiformer_jax.structure import Structure


def general_energy_and_forces(
    config: EquiformerConfig,
    params: Any,
    structure: Structure,
    edges: Edges,
    positions: jax.Array,
    cell: jax.Array,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Energy, forces and stress of a system in network units.

    Args:
      config: the model.
      params: its parameters.
      structure: elements, tags and periodic directions.
      edges: its neighbors now.
      positions: `[N, 3]` in Å.
      cell: `[3, 3]` in Å.

    Returns:
      `[]`, `[N, 3]` and `[3, 3]`, zero for a system that is not periodic.
    """
    edges = edges.sorted_by_receiver()
    periodic, model = structure.is_periodic, Equiformer(config)
    nodes = {
        "positions": positions,
        "atomic_numbers": jnp.asarray(structure.atomic_numbers, jnp.int32),
    }
    if config.use_tags:
        nodes["tags"] = jnp.asarray(structure.tags, jnp.int32)
    graph = jraph.GraphsTuple(
        nodes=nodes,
        edges={"shifts": edges.shifts.astype(positions.dtype)} if periodic else {},
        globals={"cell": cell[None]} if periodic else {},
        senders=edges.senders,
        receivers=edges.receivers,
        n_node=jnp.array([len(positions)], jnp.int32),
        n_edge=jnp.array([len(edges.senders)], jnp.int32),
    )
    found = with_derivatives(
        lambda moved: apply_model(model, {"params": params}, moved), graph, periodic
    )
    stress = found["stress"][0] if periodic else jnp.zeros((3, 3), positions.dtype)
    return found["energy"][0], found["forces"], stress

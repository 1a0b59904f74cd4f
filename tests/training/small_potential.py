"""A differentiable potential of a few lines: steps are tested without compiling a network."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from equiformer_jax import Structure
from equiformer_jax.data.graph_building import build_graph_store

CUTOFF = 5.0


def predict(params, graph, dropout_key):
    """Energies and forces of a sum over pairs; with a key, noise that depends on it alone."""

    def total(positions):
        vectors = positions[graph.senders] - positions[graph.receivers]
        squares = jnp.sum(vectors**2, axis=-1)
        hidden = jnp.tanh(squares[:, None] * params["inner"]["kernel"] + params["inner"]["bias"])
        per_atom = jax.ops.segment_sum(
            hidden @ params["outer"]["kernel"], graph.receivers, positions.shape[0]
        )
        graphs = jnp.repeat(
            jnp.arange(len(graph.n_node)), graph.n_node, total_repeat_length=positions.shape[0]
        )
        energies = jax.ops.segment_sum(per_atom, graphs, len(graph.n_node))
        return jnp.sum(energies), energies

    gradient, energies = jax.grad(total, has_aux=True)(graph.nodes["positions"])
    if dropout_key is not None and "noise" in params:
        energies += params["noise"] * jax.random.normal(dropout_key)
    return {"energy": energies, "forces": -gradient}


def initial_params(width=7):
    """Parameters named as the network names its own, so that decay groups apply."""
    generator = np.random.default_rng(3)
    return {
        "inner": {
            "kernel": jnp.asarray(generator.normal(size=width)),
            "bias": jnp.asarray(generator.normal(size=width)),
        },
        "outer": {"kernel": jnp.asarray(0.1 * generator.normal(size=width))},
    }


def random_source(count=10, seed=0):
    """Labeled clusters of 3 to 9 atoms."""
    generator = np.random.default_rng(seed)
    structures = []
    for _ in range(count):
        atoms = generator.integers(3, 10)
        structures.append(
            Structure(
                generator.normal(size=(atoms, 3)),
                np.full(atoms, 6),
                energy=generator.normal(),
                forces=generator.normal(size=(atoms, 3)),
            )
        )
    return build_graph_store(structures, CUTOFF)

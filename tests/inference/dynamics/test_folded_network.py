"""Folded networks of every kind against the model itself."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import equiformer_jax as eqf
from equiformer_jax.inference.dynamics.folded_network import fold_network, why_not_foldable
from equiformer_jax.inference.dynamics.network_energy import (
    energy_and_edge_gradients,
    forces_of_edges,
)
from equiformer_jax.inference.dynamics.skin_list import Edges
from tests.models.small_models import random_variables, small_config

POSITIONS = np.cumsum(np.random.default_rng(0).normal(size=(6, 3)), axis=0)
TAGS = np.arange(6) % 3


def edges_of(graph, positions):
    """All edges, each pair once and then reversed, and one of padding."""
    first = np.flatnonzero(graph.receivers > graph.senders)
    half = (
        np.concatenate([graph.receivers[first], [5]]),
        np.concatenate([graph.senders[first], [5]]),
    )
    receivers, senders = np.concatenate(half), np.concatenate(half[::-1])
    return Edges(
        senders,
        receivers,
        jnp.zeros((len(senders), 3), jnp.int32),
        positions[senders] - positions[receivers],
        jnp.asarray(senders != receivers),
    )


@pytest.mark.parametrize(
    ("preset", "overrides"),
    [
        pytest.param("md17_l3_e3", {"num_layers": 1}, marks=pytest.mark.slow),
        pytest.param("qm9", {"num_layers": 1, "norm_layer": "graph"}, marks=pytest.mark.slow),
        ("oc20_is2re", {"num_layers": 1, "use_atom_edge_attr": True, "max_neighbors": None}),
    ],
)
def test_energy_and_forces_are_those_of_the_model(preset, overrides):
    config = small_config(preset, max_radius=4.0, **overrides)
    assert why_not_foldable(config) is None
    structure = eqf.Structure(POSITIONS, [1, 6, 7, 8, 1, 6], tags=TAGS)
    graph, model = eqf.build_graph(structure, config.max_radius), eqf.Equiformer(config)
    variables = random_variables(model, graph)
    plan, network, _ = fold_network(
        config, variables["params"], structure.atomic_numbers, TAGS, use_table=False
    )

    @jax.jit
    def folded(network, positions):
        edges = edges_of(graph, positions)
        energy, gradient = energy_and_edge_gradients(plan, network, edges)
        return energy, forces_of_edges(gradient, edges, 6)

    energy, forces = folded(network, jnp.asarray(POSITIONS))
    wanted_energy, wanted_forces = eqf.energy_and_forces(model, variables, graph)
    assert abs(energy - wanted_energy[0]) < 1e-9
    assert np.abs(forces - wanted_forces).max() < 1e-9 * max(1, np.abs(wanted_forces).max())


def test_what_cannot_be_folded_is_named():
    assert why_not_foldable(eqf.get_preset("md17_l2")) is None
    assert why_not_foldable(eqf.get_preset("md17_l2_linear")) == "nonlinear_message"
    assert why_not_foldable(eqf.get_preset("md17_l2_dot_product")) == "attention"
    assert why_not_foldable(eqf.get_preset("md17_l2_dens")) == "use_force_encoding"

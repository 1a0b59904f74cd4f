"""Options that save memory change no result: values, forces, gradients of a loss on forces."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import equiformer_jax as eqf
from tests.models.test_model_options import graph_of, random_variables, small_model

DROPOUT = {"alpha_drop": 0.3, "proj_drop": 0.3, "out_drop": 0.3, "drop_path_rate": 0.3}
BLOCKS = {"edge_block_size": 13}  # 64 edges in five blocks, with one row of padding


@pytest.fixture(scope="module")
def graph():
    return graph_of(np.random.default_rng(0).uniform(0, 3, size=(6, 3)))


def assert_trees_close(found, wanted, tolerance):
    for x, y in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        assert np.isfinite(y).all()
        np.testing.assert_allclose(x, y, rtol=0, atol=tolerance * np.abs(y).max())


def energy_and_forces(model, variables, graph, key):
    return eqf.energy_and_forces(model, variables, graph, False, {"dropout": key})


def test_derivatives_in_training_stay_the_same(graph):
    plain, thrifty = (
        small_model(num_layers=2, **DROPOUT, **switches)
        for switches in ({}, {"remat": True, **BLOCKS})
    )
    variables = random_variables(plain, graph)

    @jax.jit
    def results(variables, key):
        return [of_one(model, variables, key) for model in (plain, thrifty)]

    def of_one(model, variables, key):
        def loss(variables):
            energy, forces = energy_and_forces(model, variables, graph, key)
            return jnp.sum(forces**2) + jnp.sum(energy), (energy[:1], forces[:6])

        return jax.grad(loss, has_aux=True)(variables)

    wanted, found = results(variables, jax.random.key(1))
    assert np.abs(wanted[1][1]).max() > 1e-3
    assert_trees_close(found, wanted, 1e-11)


@pytest.mark.parametrize(
    "message", [{"nonlinear_message": False}, {"attention": "dot_product"}], ids=["linear", "dot"]
)
def test_every_message_works_in_edge_blocks(message, graph):
    plain, blocked = (small_model(**blocks, **message, **DROPOUT) for blocks in ({}, BLOCKS))
    variables = random_variables(plain, graph)

    @jax.jit
    def both(variables, key):
        return [energy_and_forces(model, variables, graph, key) for model in (plain, blocked)]

    wanted, found = both(variables, jax.random.key(1))
    assert_trees_close(found, wanted, 1e-11)


def test_nothing_of_the_size_of_all_messages_is_kept(graph):
    """Also for the second derivative, for which one rematerialization alone keeps 0.74 and 0.63."""

    def saved(**overrides):
        model = small_model(**overrides)
        variables = random_variables(small_model(), graph)

        def forces(variables):
            return eqf.energy_and_forces(model, variables, graph)[1]

        _, pullback = jax.eval_shape(lambda v: jax.vjp(forces, v), variables)
        return sum(leaf.size for leaf in jax.tree.leaves(pullback))

    assert saved(**BLOCKS) < 0.5 * saved()
    assert saved(remat=True) < 0.4 * saved()


def test_edge_block_size_is_a_positive_number_of_edges():
    with pytest.raises(ValueError, match="edge_block_size is 0; expected at least 1"):
        small_model(edge_block_size=0)

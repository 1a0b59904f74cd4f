"""Options that save memory change no result: values, forces, gradients of a loss on forces."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import equiformer_jax as eqf
from equiformer_jax.models import equiformer
from experiments.benchmarks.arithmetic import count_matrix_flops
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


@pytest.fixture
def keep_everything(monkeypatch):
    """To be called: models that are traced from then on compute nothing again."""

    def keep():
        monkeypatch.setattr(equiformer, "keeping_products", lambda block: block)
        jax.clear_caches()

    yield keep
    jax.clear_caches()


def test_derivatives_in_training_stay_the_same(graph, keep_everything):
    plain, thrifty = (
        small_model(num_layers=2, **DROPOUT, **switches)
        for switches in ({}, {"remat": True, **BLOCKS})
    )
    variables = random_variables(plain, graph)

    def results(*models):
        of_models = jax.jit(lambda *given: [of_one(model, *given) for model in models])
        return of_models(variables, jax.random.key(1))

    def of_one(model, variables, key):
        def loss(variables):
            energy, forces = energy_and_forces(model, variables, graph, key)
            return jnp.sum(forces**2) + jnp.sum(energy), (energy[:1], forces[:6])

        return jax.grad(loss, has_aux=True)(variables)

    keeping_products, keeping_nothing = results(plain, thrifty)
    keep_everything()
    (wanted,) = results(plain)
    assert np.abs(wanted[1][1]).max() > 1e-3
    assert_trees_close(keeping_products, wanted, 1e-11)
    assert_trees_close(keeping_nothing, wanted, 1e-11)


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


def test_what_is_kept_for_a_loss_on_forces(graph, keep_everything):
    """For the second derivative, too: with one rematerialization alone four fifths are kept."""

    def saved(**overrides):
        model = small_model(**overrides)
        variables = random_variables(small_model(), graph)

        def forces(variables):
            return eqf.energy_and_forces(model, variables, graph)[1]

        _, pullback = jax.eval_shape(lambda v: jax.vjp(forces, v), variables)
        return sum(leaf.size for leaf in jax.tree.leaves(pullback))

    blocks, nothing, products = saved(**BLOCKS), saved(remat=True), saved()
    keep_everything()
    everything = saved()
    assert blocks < 0.5 * everything
    assert nothing < 0.4 * everything
    assert products < 0.55 * everything


def test_hardly_any_matrix_product_is_taken_twice(graph, keep_everything):
    """What is made again lies between the products, but for rotations: each edge has its own."""

    def gflop():
        model = small_model(num_layers=2)
        variables = random_variables(model, graph)

        def loss(variables):
            return jnp.sum(eqf.energy_and_forces(model, variables, graph)[1] ** 2)

        return count_matrix_flops(jax.jit(jax.grad(loss)), variables)

    lean = gflop()
    keep_everything()
    assert lean < 1.1 * gflop()


def test_edge_block_size_is_a_positive_number_of_edges():
    with pytest.raises(ValueError, match="edge_block_size is 0; expected at least 1"):
        small_model(edge_block_size=0)

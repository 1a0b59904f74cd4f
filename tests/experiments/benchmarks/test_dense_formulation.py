from __future__ import annotations

import jax
import numpy as np
import pytest

import equiformer_jax as eqf
from experiments.benchmarks.dense_formulation import dense_formulation
from tests.models.small_models import random_variables, small_config
from tests.models.small_systems import graph_of, random_system


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["md17_l2", "md17_l2_linear", "oc20_is2re_e3"])
def test_the_textbook_formulation_computes_the_same(preset):
    config = small_config(preset)
    model = eqf.Equiformer(config)
    system = random_system(np.random.default_rng(0), periodic=False, size=6)
    graph = graph_of(system, config.max_radius)
    variables = random_variables(model, graph, seed=1)

    def evaluate():
        """Energies and forces, and how many matrix products they are traced into."""
        traced = jax.jit(lambda v, g: eqf.energy_and_forces(model, v, g)).trace(variables, graph)
        products = str(traced.jaxpr).count("dot_general")
        return traced.lower().compile()(variables, graph), products

    ours, num_products = evaluate()
    with dense_formulation():
        dense, num_dense_products = evaluate()
    assert num_dense_products > num_products, "the messages are still the model's own"
    for ours_part, dense_part in zip(ours, dense, strict=True):
        scale = np.abs(ours_part).max()
        np.testing.assert_allclose(dense_part, ours_part, atol=1e-11 * scale)

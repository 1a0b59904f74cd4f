from __future__ import annotations

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import equiformer_jax as eqf
from equiformer_jax.models.potential import energy_and_forces, energy_forces_and_stress
from equiformer_jax.training.objectives import EnergyForceObjective
from equiformer_jax.training.prediction import make_predict
from tests.models.small_models import random_variables, small_config
from tests.models.small_systems import CRYSTAL_CUTOFF, CRYSTALS, batch_of, random_system

# The smallest model with a denoising head.
TINY = {
    "num_layers": 1,
    "irreps_node_embedding": "4x0e+2x1e",
    "irreps_sh": "1x0e+1x1e",
    "irreps_head": "2x0e+1x1e",
    "irreps_mlp_mid": "4x0e+2x1e",
    "irreps_feature": "4x0e+2x1e",
    "irreps_equivariant_inputs": "1x0e+1x1e",
    "max_radius": CRYSTAL_CUTOFF,
}


@pytest.fixture(scope="module")
def setting():
    """Model, parameters and a batch of two crystals with moved atoms."""
    config = small_config("md17_l2_dens", **TINY)
    generator = np.random.default_rng(5)
    systems = [random_system(generator, periodic=True) for _ in range(2)]
    graph = batch_of(systems, CRYSTAL_CUTOFF, CRYSTALS)
    model = eqf.Equiformer(config)
    return model, random_variables(model, graph)["params"], graph


def assert_close(left, right):
    np.testing.assert_allclose(left, right, rtol=1e-9, atol=1e-10)


def test_energies_forces_and_stress_are_those_of_the_potential(setting):
    model, params, graph = setting
    found = jax.jit(make_predict(model, True, needs_stress=True))(params, graph, None)
    energy, forces, stress = energy_forces_and_stress(model, {"params": params}, graph)
    assert found.keys() == {"energy", "forces", "stress", "denoising"}
    assert_close(found["energy"], energy)
    assert_close(found["forces"], forces)
    assert_close(found["stress"], stress)
    assert np.abs(stress[:2]).max() > 1e-6
    assert not found["stress"][2:].any()


def test_moved_atoms_get_their_noise_beside_the_forces(setting):
    model, params, graph = setting
    found = jax.jit(make_predict(model, needs_forces=True))(params, graph, None)
    energy, forces = energy_and_forces(model, {"params": params}, graph)
    assert found.keys() == {"energy", "forces", "denoising"}
    assert_close(found["energy"], energy)
    assert_close(found["forces"], forces)
    outputs = jax.jit(lambda p: model.apply({"params": p}, graph))(params)
    assert_close(found["denoising"], outputs["denoising"])


class Springs:
    """Stands for a network whose energy is half the sum of its squared edges and of some noise."""

    def __init__(self, **config):
        heads = {"use_denoising": False, "use_auxiliary_task": False}
        self.config = types.SimpleNamespace(**(heads | config))

    def apply(self, variables, graph, deterministic, rngs):
        positions, cells = graph.nodes["positions"], graph.globals["cell"]
        shifts = graph.edges["shifts"] @ cells[0]
        edges = positions[graph.senders] - positions[graph.receivers] + shifts
        energy = 0.5 * variables["params"]["stiffness"] * jnp.sum(edges**2)
        if not deterministic:
            energy *= 1 + jax.random.uniform(rngs["dropout"])
        return {"energy": jnp.array([energy, 0.0]), "displacement": 2 * positions}


def crystal():
    structure = eqf.Structure(
        [[0.0, 0.0, 0.0], [1.0, 0.2, 0.1]], [6, 6], cell=np.diag([3.0, 4.0, 5.0]), pbc=(True,) * 3
    )
    return jax.tree.map(jnp.asarray, eqf.batch_graphs([eqf.build_graph(structure, 3.1)]))


PARAMS = {"stiffness": jnp.float64(1.5)}


def test_outputs_of_further_heads_come_along():
    graph = crystal()
    for needs in ((False, False), (True, False), (True, True)):
        found = make_predict(Springs(use_auxiliary_task=True), *needs)(PARAMS, graph, None)
        np.testing.assert_array_equal(found["displacement"], 2 * graph.nodes["positions"])
        assert ("forces" in found, "stress" in found) == needs


def test_stress_by_hand():
    graph = crystal()
    found = make_predict(Springs(), True, needs_stress=True)(PARAMS, graph, None)
    shifts = graph.edges["shifts"] @ graph.globals["cell"][0]
    edges = graph.nodes["positions"][graph.senders] - graph.nodes["positions"][graph.receivers]
    edges = np.asarray(edges + shifts)
    np.testing.assert_allclose(found["stress"][0], 1.5 * edges.T @ edges / 60.0, rtol=1e-12)


def test_dropout_reaches_energy_forces_and_stress():
    predict = make_predict(Springs(), True, needs_stress=True)
    key = jax.random.key(3)
    plain, noisy = predict(PARAMS, crystal(), None), predict(PARAMS, crystal(), key)
    factor = 1 + float(jax.random.uniform(key))
    for name in ("energy", "forces", "stress"):
        np.testing.assert_allclose(noisy[name], factor * plain[name], rtol=1e-12, atol=1e-12)


def test_a_stress_loss_can_be_minimized():
    objective = EnergyForceObjective(2.0, force_weight=1.0, stress_weight=10.0, energy_weight=0.0)
    predict = make_predict(Springs(), objective.needs_forces, objective.needs_stress)
    graph = crystal()
    true = predict({"stiffness": jnp.float64(2.0)}, graph, None)
    graph = graph._replace(
        nodes={**graph.nodes, "forces": 2.0 * true["forces"]},
        globals={**graph.globals, "energy": 2 * true["energy"], "stress": 2 * true["stress"]},
    )

    def stress_loss(stiffness):
        predictions = predict({"stiffness": stiffness}, graph, None)
        return objective.terms(predictions, graph)["stress"].value

    value, slope = jax.value_and_grad(stress_loss)(jnp.float64(1.5))
    mean_size = np.mean(np.abs(true["stress"][0])) / 2.0
    np.testing.assert_allclose([value, slope], [0.5 * mean_size, -mean_size], rtol=1e-12)


def test_without_a_mask_nothing_was_moved():
    class Noisy(Springs):
        def apply(self, variables, graph, deterministic, rngs):
            found = super().apply(variables, graph, deterministic, rngs)
            return found | {"denoising": graph.nodes["positions"]}

    graph = crystal()
    moved = graph._replace(nodes={**graph.nodes, "noise_mask": jnp.array([True, False, False])})
    predict = make_predict(Noisy(use_denoising=True), needs_forces=True)
    assert "denoising" in predict(PARAMS, moved, None)
    assert "denoising" not in predict(PARAMS, graph, None)


def test_stress_needs_cells():
    graph = crystal()
    with pytest.raises(ValueError, match="no 'cell'; stress needs periodic systems"):
        make_predict(Springs(), True, needs_stress=True)(PARAMS, graph._replace(globals={}), None)

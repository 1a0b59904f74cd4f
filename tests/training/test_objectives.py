from __future__ import annotations

import jax
import jax.numpy as jnp
import jraph
import numpy as np
import pytest

from equiformer_jax.training.objectives import (
    EnergyForceObjective,
    Mean,
    l1_error,
    l2_error,
    weighted_loss,
)


def padded_graph():
    """Two real graphs of 1 and 2 atoms, padded to 5 nodes and 4 graphs with rubbish."""
    return jraph.GraphsTuple(
        nodes={"forces": jnp.array([[3.0, 4, 0], [0, 0, 1], [2, 0, 0], [9, 9, 9], [9, 9, 9]])},
        edges={},
        globals={"energy": jnp.array([1.0, -2.0, 99.0, 99.0])},
        senders=jnp.zeros(0, jnp.int32),
        receivers=jnp.zeros(0, jnp.int32),
        n_node=jnp.array([1, 2, 2, 0]),
        n_edge=jnp.array([0, 0, 0, 0]),
    )


PREDICTIONS = {
    "energy": jnp.array([1.0, 0.5, 7.0, 7.0]),
    "forces": jnp.zeros((5, 3)).at[3:].set(5.0),
}


def test_loss_by_hand():
    objective = EnergyForceObjective(energy_std=2.0, energy_weight=3.0, force_weight=10.0)
    terms = objective.terms(PREDICTIONS, padded_graph())
    # Energies: |1 - 1/2| and |0.5 - (-2)/2|; forces: 5/2, 1/2 and 2/2.
    assert float(terms["energy"].total) == pytest.approx(2.0)
    assert int(terms["energy"].count) == 2
    assert float(terms["force"].total) == pytest.approx(4.0)
    assert int(terms["force"].count) == 3
    expected = 3.0 * 2.0 / 2 + 10.0 * 4.0 / 3
    assert float(weighted_loss(terms, objective.weights)) == pytest.approx(expected)


def test_metrics_by_hand_in_physical_units():
    objective = EnergyForceObjective(energy_std=2.0, force_weight=1.0)
    metrics = objective.metrics(PREDICTIONS, padded_graph())
    assert float(metrics["energy_mae_mev"].value) == pytest.approx(1000 * (1.0 + 3.0) / 2)
    # Over atoms and components: (3 + 4 + 1 + 2) / 9.
    assert float(metrics["force_mae_mev_per_angstrom"].value) == pytest.approx(1000 * 10 / 9)


def test_l1_force_error_is_the_mean_over_components():
    objective = EnergyForceObjective(energy_std=1.0, force_weight=1.0, force_error="l1")
    force = objective.terms(PREDICTIONS, padded_graph())["force"]
    assert float(force.value) == pytest.approx(10 / 9)


def test_energy_alone_needs_no_forces():
    objective = EnergyForceObjective(energy_std=1.0)
    assert not objective.needs_forces
    predictions = {"energy": PREDICTIONS["energy"]}
    assert set(objective.terms(predictions, padded_graph())) == {"energy"}
    assert set(objective.metrics(predictions, padded_graph())) == {"energy_mae_mev"}


def test_nothing_in_the_padding_matters_not_even_nan():
    graph = padded_graph()
    rubbish = graph._replace(
        nodes={"forces": graph.nodes["forces"].at[3:].set(jnp.nan)},
        globals={"energy": graph.globals["energy"].at[2:].set(jnp.inf)},
    )
    objective = EnergyForceObjective(energy_std=1.0, force_weight=1.0)

    def loss(predictions, graph):
        return weighted_loss(objective.terms(predictions, graph), objective.weights)

    clean_gradient = jax.grad(loss)(PREDICTIONS, graph)
    gradient = jax.grad(loss)(PREDICTIONS, rubbish)
    assert float(loss(PREDICTIONS, graph)) == float(loss(PREDICTIONS, rubbish))
    jax.tree.map(np.testing.assert_array_equal, gradient, clean_gradient)
    assert not gradient["forces"][3:].any()


def test_an_exact_force_has_gradient_zero():
    mask = jnp.array([True, True])
    target = jnp.array([[1.0, 2.0, 3.0], [0.0, 0.0, 0.0]])
    gradient = jax.grad(lambda f: l2_error(f, target, mask).value)(target.at[0, 0].add(2.0))
    np.testing.assert_allclose(gradient, [[0.5, 0, 0], [0, 0, 0]])


def test_means_of_parts_add_up():
    values = jnp.arange(6.0)
    mask = jnp.array([True, True, False, True, True, True])
    whole = l1_error(values, jnp.zeros(6), mask)
    parts = [l1_error(values[s], jnp.zeros(3), mask[s]) for s in (slice(0, 3), slice(3, 6))]
    total = parts[0] + parts[1]
    assert float(whole.value) == float(total.value) == pytest.approx(13 / 5)


def test_the_mean_of_nothing_is_zero():
    assert float(Mean(jnp.float64(0), jnp.int32(0)).value) == 0.0


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"energy_std": 0.0}, "energy_std"),
        ({"energy_std": 1.0, "force_weight": -1.0}, "force_weight"),
        ({"energy_std": 1.0, "force_error": "l3"}, "force_error"),
    ],
)
def test_impossible_objectives_are_refused_by_name(settings, name):
    with pytest.raises(ValueError, match=name):
        EnergyForceObjective(**settings)

from __future__ import annotations

import jax.numpy as jnp
import jraph
import pytest

from equiformer_jax.training.objectives import EnergyForceObjective, weighted_loss


def padded_graph():
    """Two real graphs of 1 and 2 atoms, padded to 5 nodes and 4 graphs with rubbish."""
    return jraph.GraphsTuple(
        nodes={"forces": jnp.array([[3.0, 4, 0], [0, 0, 1], [2, 0, 0], [9, 9, 9], [9, 9, 9]])},
        edges={},
        globals={
            "energy": jnp.array([1.0, -2.0, 99.0, 99.0]),
            "stress": jnp.full((4, 3, 3), 99.0).at[:2].set(jnp.eye(3) * 0.5),
        },
        senders=jnp.zeros(0, jnp.int32),
        receivers=jnp.zeros(0, jnp.int32),
        n_node=jnp.array([1, 2, 2, 0]),
        n_edge=jnp.array([0, 0, 0, 0]),
    )


PREDICTIONS = {
    "energy": jnp.array([1.0, 0.5, 7.0, 7.0]),
    "forces": jnp.zeros((5, 3)).at[3:].set(5.0),
    "stress": jnp.zeros((4, 3, 3)).at[1].set(0.1),
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
    assert float(weighted_loss(terms, objective.weights_at(0))) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("error", "energy", "force"),
    [
        # Energies are off by 0.5 and 1.5; forces by 1.5, 2, 0.5 and 1 in one component each.
        ("l1", 2.0 / 2, 5.0 / 9),
        ("l2", 2.0 / 2, 4.0 / 3),
        ("mse", (0.25 + 2.25) / 2, (2.25 + 4 + 0.25 + 1) / 9),
        ("huber", (0.125 + 1.0) / 2, (1.0 + 1.5 + 0.125 + 0.5) / 9),
    ],
)
def test_errors_by_name(error, energy, force):
    objective = EnergyForceObjective(
        2.0, force_weight=1.0, force_error=error, energy_error=error, huber_delta=1.0
    )
    terms = objective.terms(PREDICTIONS, padded_graph())
    assert float(terms["energy"].value) == pytest.approx(energy)
    assert float(terms["force"].value) == pytest.approx(force)


def test_stress_by_hand():
    objective = EnergyForceObjective(energy_std=2.0, stress_weight=7.0)
    assert objective.needs_stress
    assert objective.weights_at(9) == {"energy": 1.0, "stress": 7.0}
    assert objective.selection == {
        "energy_mae_mev": 1.0,
        "stress_mae_mev_per_cubic_angstrom": 7.0,
    }
    stress = objective.terms(PREDICTIONS, padded_graph())["stress"]
    # Labels over s are 0.25 on the diagonal; predictions 0 everywhere and 0.1 everywhere.
    assert float(stress.total) == pytest.approx(3 * 0.25 + 3 * 0.15 + 6 * 0.1)
    assert int(stress.count) == 18
    metric = objective.metrics(PREDICTIONS, padded_graph())["stress_mae_mev_per_cubic_angstrom"]
    assert float(metric.value) == pytest.approx(1000 * 2 * 1.8 / 18)


def test_metrics_by_hand_in_physical_units():
    objective = EnergyForceObjective(energy_std=2.0, force_weight=1.0)
    metrics = objective.metrics(PREDICTIONS, padded_graph())
    assert float(metrics["energy_mae_mev"].value) == pytest.approx(1000 * (1.0 + 3.0) / 2)
    # Over atoms and components: (3 + 4 + 1 + 2) / 9.
    assert float(metrics["force_mae_mev_per_angstrom"].value) == pytest.approx(1000 * 10 / 9)


def test_energy_alone_needs_no_forces():
    objective = EnergyForceObjective(energy_std=1.0)
    assert not objective.needs_forces
    assert not objective.needs_stress
    predictions = {"energy": PREDICTIONS["energy"]}
    assert set(objective.terms(predictions, padded_graph())) == {"energy"}
    assert set(objective.metrics(predictions, padded_graph())) == {"energy_mae_mev"}


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"energy_std": 0.0}, "energy_std"),
        ({"energy_std": 1.0, "force_weight": -1.0}, "force_weight"),
        ({"energy_std": 1.0, "force_error": "l3"}, "force_error"),
        ({"energy_std": 1.0, "energy_error": "mae"}, "energy_error"),
        ({"energy_std": 1.0, "stress_error": "l2"}, "stress_error='l2'; expected one of"),
        ({"energy_std": 1.0, "stress_weight": -1.0}, "stress_weight=-1.0"),
        ({"energy_std": 1.0, "huber_delta": 0.0}, "huber_delta"),
    ],
)
def test_impossible_objectives_are_refused_by_name(settings, name):
    with pytest.raises(ValueError, match=name):
        EnergyForceObjective(**settings)

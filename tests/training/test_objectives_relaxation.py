from __future__ import annotations

import jax.numpy as jnp
import jraph
import numpy as np
import pytest

from equiformer_jax.training.objectives import RelaxationObjective, weighted_loss


def padded_graph():
    """Two graphs of 1 and 3 atoms; the first of three is below the surface."""
    displacements = [[0.2, 0, 0], [9, 9, 9], [0, -0.4, 0], [0.2, 0.2, 0.2], [9, 9, 9]]
    return jraph.GraphsTuple(
        nodes={
            "positions": jnp.full((5, 3), 3.0),
            "relaxed_positions": 3.0 + jnp.array(displacements),
            "tags": jnp.array([2, 0, 1, 2, 2]),
        },
        edges={},
        globals={"energy": jnp.array([1.5, -1.5, 99.0])},
        senders=jnp.zeros(0, jnp.int32),
        receivers=jnp.zeros(0, jnp.int32),
        n_node=jnp.array([1, 3, 1]),
        n_edge=jnp.array([0, 0, 0]),
    )


PREDICTIONS = {
    "energy": jnp.array([0.0, -0.754, 7.0]),
    "displacement": jnp.zeros((5, 3)).at[3].set(1.0),
}
SETTINGS = {
    "energy_std": 2.0,
    "displacement_std": 0.4,
    "total_steps": 100,
}


@pytest.mark.parametrize(
    ("error", "displacement"),
    [("sum_over_components", (0.5 + 1.0 + 1.5) / 3), ("mean_over_components", 3.0 / 9)],
)
def test_loss_by_hand_in_both_conventions(error, displacement):
    objective = RelaxationObjective(**SETTINGS, displacement_error=error)
    terms = objective.terms(PREDICTIONS, padded_graph())
    # Standardized energies 0.75 and -0.75; displacements over s: 0.5, -1 and three times 0.5.
    energy = (0.75 + 0.004) / 2
    assert float(terms["energy"].value) == pytest.approx(energy)
    assert float(terms["displacement"].value) == pytest.approx(displacement)
    loss = weighted_loss(terms, objective.weights_at(25))
    assert float(loss) == pytest.approx(energy + 11.5 * displacement)


def test_the_default_sums_over_components_as_the_published_runs_do():
    objective = RelaxationObjective(2.0, displacement_std=1.0, total_steps=1)
    assert objective.displacement_error == "sum_over_components"


def test_metrics_by_hand():
    metrics = RelaxationObjective(**SETTINGS).metrics(PREDICTIONS, padded_graph())
    # Predicted energies 0 and -1.508 eV.
    assert float(metrics["energy_mae_ev"].value) == pytest.approx((1.5 + 0.008) / 2)
    assert float(metrics["energy_within_threshold"].value) == 0.5
    error = (0.2 + 0.4 + 3 * 0.2) / 9
    assert float(metrics["displacement_mae_angstrom"].value) == pytest.approx(error)


def test_the_weight_of_displacements_falls_over_the_run():
    objective = RelaxationObjective(2.0, displacement_std=1.0, total_steps=200)
    steps = np.array([0, 1, 50, 199, 200, 1000])
    weights = [float(objective.weights_at(int(step))["displacement"]) for step in steps]
    np.testing.assert_allclose(weights, 15 - 14 * np.minimum(1, steps / 200), rtol=1e-15)
    assert objective.selection == {"energy_mae_ev": 1.0}


def test_energies_alone():
    objective = RelaxationObjective(energy_std=2.0)
    graph = padded_graph()._replace(nodes={})
    predictions = {"energy": PREDICTIONS["energy"]}
    assert set(objective.terms(predictions, graph)) == {"energy"}
    assert set(objective.metrics(predictions, graph)) == {
        "energy_mae_ev",
        "energy_within_threshold",
    }
    assert objective.weights_at(3) == {"energy": 1.0}


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"energy_std": -1.0}, "energy_std"),
        ({"displacement_std": 0.0}, "displacement_std"),
        ({"total_steps": None}, "total_steps=None; expected at least 1"),
        ({"displacement_weight": -1.0}, "displacement_weight"),
        ({"displacement_error": "l1"}, "displacement_error='l1'; expected one of"),
    ],
)
def test_impossible_objectives_are_refused_by_name(changes, name):
    with pytest.raises(ValueError, match=name):
        RelaxationObjective(**{**SETTINGS, **changes})


@pytest.mark.parametrize("name", ["relaxed_positions", "tags"])
def test_missing_labels_of_atoms_are_named(name):
    graph = padded_graph()
    nodes = {key: value for key, value in graph.nodes.items() if key != name}
    with pytest.raises(ValueError, match=rf"graph\.nodes\['{name}'\]"):
        RelaxationObjective(**SETTINGS).terms(PREDICTIONS, graph._replace(nodes=nodes))

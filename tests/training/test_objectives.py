"""What every objective keeps: padding, the way graphs are dealt out, names and labels."""

from __future__ import annotations

import functools
import operator

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from equiformer_jax.training.objectives import (
    DenoisingObjective,
    EnergyForceObjective,
    Mean,
    RelaxationObjective,
    ScalarTargetObjective,
    weighted_loss,
)
from tests.training.labeled_graphs import ATOMS, batch_of

OBJECTIVES = {
    "energy": EnergyForceObjective(1.7),
    "energy_force_l2": EnergyForceObjective(1.7, 2.0, 30.0, energy_error="l2"),
    "energy_force_stress_huber": EnergyForceObjective(
        1.7, 2.0, 30.0, "huber", "huber", stress_weight=4.0, stress_error="huber", huber_delta=0.3
    ),
    "energy_force_mse": EnergyForceObjective(1.7, 2.0, 30.0, "mse", "mse", stress_weight=1.0),
    "scalar_target": ScalarTargetObjective(std=0.6),
    "relaxation_energy": RelaxationObjective(2.0),
    "relaxation": RelaxationObjective(2.0, displacement_std=0.9, total_steps=10),
    "relaxation_mean": RelaxationObjective(
        2.0, displacement_std=0.9, total_steps=10, displacement_error="mean_over_components"
    ),
    "denoising": DenoisingObjective(1.7, num_epochs=4, steps_per_epoch=3),
}


@pytest.fixture(params=OBJECTIVES)
def objective(request):
    return OBJECTIVES[request.param]


def sums(objective, batch):
    """Totals and counts of all terms and metrics."""
    means = objective.terms(*batch) | {
        f"metric {name}": mean for name, mean in objective.metrics(*batch).items()
    }
    return {name: (float(mean.total), int(mean.count)) for name, mean in means.items()}


@pytest.mark.parametrize("parts", [[(0, 1, 2, 3, 4), ()], [(3,), (0, 4), (2, 1)]])
def test_graphs_may_be_dealt_out_in_any_way(objective, parts):
    whole = sums(objective, batch_of(range(len(ATOMS)), 1, 1))
    pieces = [sums(objective, batch_of(part, 1 + 2 * n, 1 + n)) for n, part in enumerate(parts)]
    for name, (total, count) in whole.items():
        np.testing.assert_allclose(sum(piece[name][0] for piece in pieces), total, rtol=1e-13)
        assert sum(piece[name][1] for piece in pieces) == count > 0


def test_padding_has_no_share_in_the_gradient_not_even_nan(objective):
    def loss(predictions, graph):
        return weighted_loss(objective.terms(predictions, graph), objective.weights_at(2))

    indices = range(len(ATOMS))
    predictions, graph = batch_of(indices, rubbish=np.nan)
    value, gradient = jax.value_and_grad(loss)(predictions, graph)
    assert np.isfinite(value)
    clean = jax.grad(loss)(predictions, batch_of(indices, rubbish=0.0)[1])
    jax.tree.map(np.testing.assert_array_equal, gradient, clean)
    assert not any(leaf[-2:].any() for leaf in jax.tree.leaves(gradient))
    assert any(leaf.any() for leaf in jax.tree.leaves(gradient))


def test_counts_do_not_depend_on_the_predictions(objective):
    predictions, graph = batch_of(range(len(ATOMS)))
    zeros = jax.tree.map(jnp.zeros_like, predictions)
    counts = {name: int(term.count) for name, term in objective.terms(predictions, graph).items()}
    assert counts == {name: int(t.count) for name, t in objective.terms(zeros, graph).items()}


def test_every_term_has_a_weight_and_weights_are_chosen_by_metrics(objective):
    predictions, graph = batch_of(range(len(ATOMS)))
    assert objective.terms(predictions, graph).keys() == objective.weights_at(0).keys()
    assert objective.metrics(predictions, graph).keys() >= objective.selection.keys()
    assert all(isinstance(weight, float) for weight in objective.selection.values())


def test_weights_can_be_traced(objective):
    traced = jax.jit(lambda step: dict(objective.weights_at(step)))(jnp.int32(5))
    for name, weight in objective.weights_at(5).items():
        np.testing.assert_allclose(traced[name], weight, rtol=1e-15)


def test_a_missing_label_is_named(objective):
    predictions, graph = batch_of((0, 1))
    with pytest.raises(ValueError, match=r"graph\.globals\['energy'\].*\['stress'\]"):
        objective.terms(predictions, graph._replace(globals={"stress": graph.globals["stress"]}))


def test_the_mean_of_nothing_is_zero():
    assert float(Mean(jnp.float64(0), jnp.int32(0)).value) == 0.0


def test_means_add_up_and_change_their_unit():
    parts = [Mean(jnp.float64(3.0), jnp.int32(2)), Mean(jnp.float64(4.0), jnp.int32(3))]
    total = functools.reduce(operator.add, parts)
    assert float(total.value) == pytest.approx(7 / 5)
    assert float(total.times(1000.0).value) == pytest.approx(1400.0)
    assert int(total.times(1000.0).count) == 5

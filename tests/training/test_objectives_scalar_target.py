from __future__ import annotations

import jax.numpy as jnp
import jraph
import pytest

from equiformer_jax.training.objectives import ScalarTargetObjective


def padded_graph():
    return jraph.GraphsTuple(
        nodes={},
        edges={},
        globals={"energy": jnp.array([-2.0, 4.0, 99.0])},
        senders=jnp.zeros(0, jnp.int32),
        receivers=jnp.zeros(0, jnp.int32),
        n_node=jnp.array([1, 2, 2]),
        n_edge=jnp.array([0, 0, 0]),
    )


PREDICTIONS = {"energy": jnp.array([0.5, 1.0, 7.0])}


def test_loss_and_metric_by_hand():
    objective = ScalarTargetObjective(std=4.0, metric_name="gap_mae_mev", metric_scale=1000.0)
    (term,) = objective.terms(PREDICTIONS, padded_graph()).values()
    # Standardized targets -0.5 and 1; predicted in units of the target 2 and 4.
    assert (float(term.total), int(term.count)) == (1.0, 2)
    metrics = objective.metrics(PREDICTIONS, padded_graph())
    assert metrics.keys() == {"gap_mae_mev"}
    assert float(metrics["gap_mae_mev"].value) == pytest.approx(1000 * 4.0 / 2)


def test_targets_that_are_not_standardized():
    objective = ScalarTargetObjective(std=1.0)
    term = objective.terms(PREDICTIONS, padded_graph())["target"]
    metric = objective.metrics(PREDICTIONS, padded_graph())["target_mae"]
    assert float(term.value) == float(metric.value) == pytest.approx((2.5 + 3.0) / 2)


def test_an_impossible_deviation_is_refused():
    with pytest.raises(ValueError, match=r"std=0\.0; expected a positive number"):
        ScalarTargetObjective(std=0.0)

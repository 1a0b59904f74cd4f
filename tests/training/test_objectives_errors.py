from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from equiformer_jax.training.objectives.errors import (
    error_function,
    huber_error,
    l1_error,
    l2_error,
    mse_error,
    share_within,
    summed_l1_error,
)

# Two rows that count and one that does not.
PREDICTED = jnp.array([[3.0, -4.0], [0.5, 0.0], [np.nan, 9.0]])
TARGET = jnp.array([[0.0, 0.0], [0.0, 2.0], [1.0, np.inf]])
MASK = jnp.array([True, True, False])


@pytest.mark.parametrize(
    ("error", "total", "count"),
    [
        (l1_error, 3 + 4 + 0.5 + 2, 4),
        (l2_error, 5 + np.sqrt(4.25), 2),
        (mse_error, 9 + 16 + 0.25 + 4, 4),
        # delta 1: |x| - 1/2 beyond, x^2 / 2 below.
        (error_function("huber", 1.0), 2.5 + 3.5 + 0.125 + 1.5, 4),
        # delta 2: 2 |x| - 2 beyond, x^2 / 2 up to it.
        (error_function("huber", 2.0), 4 + 6 + 0.125 + 2, 4),
        (summed_l1_error, 3 + 4 + 0.5 + 2, 2),
    ],
)
def test_errors_by_hand(error, total, count):
    mean = error(PREDICTED, TARGET, MASK)
    assert float(mean.total) == pytest.approx(total)
    assert int(mean.count) == count


def test_a_number_is_a_row_of_length_one():
    predicted, target = jnp.array([1.0, -2.0, 5.0]), jnp.array([3.0, -2.0, 5.5])
    whole = jnp.array([True, True, True])
    norms, sizes = (error(predicted, target, whole) for error in (l2_error, l1_error))
    assert float(norms.total) == float(sizes.total) == 2.5
    assert int(norms.count) == int(sizes.count) == 3
    gradients = [
        jax.grad(lambda p, e=error: e(p, target, whole).total)(predicted)
        for error in (l2_error, l1_error)
    ]
    np.testing.assert_array_equal(*gradients)


@pytest.mark.parametrize("error", [l1_error, l2_error, mse_error, huber_error, summed_l1_error])
def test_gradients_are_finite_at_an_exact_prediction_and_beside_rubbish(error):
    gradient = jax.grad(lambda p: error(p, TARGET, MASK).value)(TARGET.at[0, 0].add(2.0))
    assert np.isfinite(gradient).all()
    assert gradient[0, 0] > 0
    assert not gradient[1:].any()


def test_huber_goes_over_smoothly():
    def slope(value):
        return jax.grad(lambda p: huber_error(p, jnp.zeros(1), jnp.array([True]), 0.3).total)(
            jnp.array([value])
        )[0]

    for value, expected in ((0.1, 0.1), (0.3, 0.3), (0.7, 0.3), (-0.2, -0.2), (-5.0, -0.3)):
        assert float(slope(value)) == pytest.approx(expected)


def test_share_within_a_threshold():
    predicted, target = jnp.array([1.0, 1.0, 1.0, 1.0]), jnp.array([1.015, 0.97, 1.0, 1.0])
    share = share_within(predicted, target, jnp.array([True, True, True, False]), 0.02)
    assert (float(share.total), int(share.count)) == (2.0, 3)

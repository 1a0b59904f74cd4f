from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from equiformer_jax.training.averages import ParameterAverage


def test_a_plain_average_by_hand():
    average = ParameterAverage(decay=0.75)
    value = {"kernel": jnp.array([8.0])}
    for step, (params, expected) in enumerate([(0.0, 6.0), (2.0, 5.0), (5.0, 5.0)]):
        value = average.update(value, {"kernel": jnp.array([params])}, jnp.int32(step))
        np.testing.assert_allclose(value["kernel"], [expected])


def test_the_warmup_raises_the_decay_to_its_value():
    average = ParameterAverage(decay=0.5, warmup=True)
    decays = [float(average.decay_at(step)) for step in range(12)]
    np.testing.assert_allclose(decays, [min(0.5, (1 + n) / (10 + n)) for n in range(12)])
    assert decays[0] == pytest.approx(0.1)
    value = average.update({"w": jnp.array([1.0])}, {"w": jnp.array([0.0])}, jnp.int32(1))
    np.testing.assert_allclose(value["w"], [2 / 11])


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_leaves_keep_their_type(dtype):
    value = ParameterAverage(0.9).update(jnp.ones(3, dtype), jnp.zeros(3, dtype), jnp.int32(0))
    assert value.dtype == dtype


def test_a_decay_of_zero_follows_the_parameters():
    value = jax.jit(ParameterAverage(0.0).update)(jnp.ones(2), jnp.zeros(2), jnp.int32(4))
    np.testing.assert_array_equal(value, [0.0, 0.0])


@pytest.mark.parametrize("decay", [-0.1, 1.0, 1.5])
def test_an_impossible_decay_is_refused(decay):
    with pytest.raises(ValueError, match=f"decay={decay}"):
        ParameterAverage(decay)

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from equiformer_jax.training import make_optimizer
from equiformer_jax.training.state import count_parameters, create_train_state
from tests.training.small_potential import initial_params


def fresh(**options):
    return create_train_state(
        initial_params(), make_optimizer(1e-3, 1e-2), jax.random.key(5), **options
    )


def test_a_state_starts_at_step_zero_without_an_average():
    state = fresh()
    assert int(state.step) == 0
    assert state.step.dtype == jnp.int32
    assert state.ema_params is None


def test_a_state_without_average_has_the_structure_that_it_always_had():
    state = fresh()
    parts = (state.step, state.params, state.opt_state, state.rng)
    assert len(jax.tree.leaves(state)) == len(jax.tree.leaves(parts))


def test_an_average_starts_at_the_parameters_in_buffers_of_its_own():
    state = fresh(with_average=True)
    assert jax.tree.structure(state.ema_params) == jax.tree.structure(state.params)
    for average, param in zip(
        jax.tree.leaves(state.ema_params), jax.tree.leaves(state.params), strict=True
    ):
        np.testing.assert_array_equal(average, param)
        assert average.unsafe_buffer_pointer() != param.unsafe_buffer_pointer()


def test_parameters_are_counted():
    assert count_parameters(initial_params(width=7)) == 21

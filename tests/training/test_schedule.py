from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from equiformer_jax.training.schedule import (
    cosine_epoch_schedule,
    warmup_cosine_step_schedule,
)


def published_rate(epoch, base, warmup_epochs, num_epochs, warmup_lr=1e-6, min_lr=1e-6):
    if epoch < warmup_epochs:
        return warmup_lr + epoch * (base - warmup_lr) / warmup_epochs
    return min_lr + 0.5 * (base - min_lr) * (1 + math.cos(math.pi * epoch / num_epochs))


# Base rate, warm-up epochs, epochs, steps in an epoch. That every configuration has the published
# curve is shown in tests/experiments/test_recipes.py.
EPOCH_CASES = {
    "with_warmup": (5e-4, 10, 150, 118),
    "without_warmup": (1.5e-4, 0, 6, 3),
    "one_step_in_an_epoch": (1e-4, 5, 300, 1),
}
# Base rate, epochs, steps in an epoch.
STEP_CASES = {"long": (5e-4, 40, 3125), "short": (1.5e-4, 3, 7)}


@pytest.mark.parametrize("case", EPOCH_CASES)
def test_every_step_of_an_epoch_has_the_published_rate(case):
    base, warmup_epochs, num_epochs, steps = EPOCH_CASES[case]
    schedule = cosine_epoch_schedule(base, warmup_epochs, num_epochs, steps)
    rates = jax.jit(jax.vmap(schedule))(jnp.arange(num_epochs * steps))
    expected = [published_rate(t, base, warmup_epochs, num_epochs) for t in range(num_epochs)]
    np.testing.assert_allclose(rates, np.repeat(expected, steps), rtol=1e-11)


@pytest.mark.parametrize("case", STEP_CASES)
def test_every_step_of_a_step_schedule_has_the_published_rate(case):
    base, num_epochs, steps_per_epoch = STEP_CASES[case]
    total, warmup = num_epochs * steps_per_epoch, 2 * steps_per_epoch
    schedule = warmup_cosine_step_schedule(base, warmup, total)
    rates = np.asarray(jax.jit(jax.vmap(schedule))(jnp.arange(total)))
    steps = np.arange(total, dtype=np.float64)
    linear = np.interp(steps, [0, warmup], [0.2 * base, base])
    cosine = base * (0.01 + 0.5 * 0.99 * (1 + np.cos(np.pi * steps / total)))
    np.testing.assert_allclose(rates, np.where(steps <= warmup, linear, cosine), rtol=1e-11)


def test_the_step_cosine_is_not_shifted_by_the_warmup():
    schedule = warmup_cosine_step_schedule(1.0, 10, 100, warmup_factor=0.3, min_factor=0.05)
    assert float(schedule(0)) == pytest.approx(0.3)
    assert float(schedule(5)) == pytest.approx(0.65)
    assert float(schedule(10)) == pytest.approx(1.0)
    assert float(schedule(11)) == pytest.approx(0.05 + 0.475 * (1 + math.cos(0.11 * math.pi)))
    assert float(schedule(100)) == float(schedule(1000)) == pytest.approx(0.05)


def test_a_step_schedule_without_warmup_starts_at_the_base_rate():
    schedule = warmup_cosine_step_schedule(2e-4, 0, 100)
    assert float(schedule(0)) == pytest.approx(2e-4)
    assert float(schedule(50)) == pytest.approx(2e-4 * 0.505)


def test_first_epoch_runs_at_the_warmup_rate_and_the_last_step_is_the_minimum():
    schedule = cosine_epoch_schedule(1e-3, 2, 10, 4, warmup_lr=1e-5, min_lr=1e-7)
    assert float(schedule(0)) == pytest.approx(1e-5)
    assert float(schedule(4)) == pytest.approx(1e-5 + (1e-3 - 1e-5) / 2)
    # The cosine is not shifted by the warm-up: the rate drops below the base at its end.
    assert float(schedule(8)) == pytest.approx(published_rate(2, 1e-3, 2, 10, 1e-5, 1e-7))
    assert float(schedule(40)) == pytest.approx(1e-7)
    assert float(schedule(4000)) == pytest.approx(1e-7)


def test_works_under_jit_and_keeps_float64():
    schedule = cosine_epoch_schedule(5e-4, 3, 8, 5)
    step = jnp.int32(23)
    assert jax.jit(schedule)(step).dtype == jnp.float64
    np.testing.assert_allclose(jax.jit(schedule)(step), schedule(23), rtol=1e-15)


@pytest.mark.usefixtures("float32_mode")
def test_is_float32_without_x64():
    rate = jax.jit(cosine_epoch_schedule(5e-4, 3, 8, 5))(jnp.int32(23))
    assert rate.dtype == jnp.float32
    np.testing.assert_allclose(rate, published_rate(4, 5e-4, 3, 8), rtol=1e-6)
    rate = jax.jit(warmup_cosine_step_schedule(5e-4, 4, 16))(jnp.int32(8))
    assert rate.dtype == jnp.float32
    np.testing.assert_allclose(rate, 5e-4 * 0.505, rtol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ((1e-3, 0, 0, 5), "num_epochs"),
        ((1e-3, 0, 3, 0), "steps_per_epoch"),
        ((1e-3, 4, 3, 5), "warmup_epochs"),
        ((1e-3, -1, 3, 5), "warmup_epochs"),
    ],
)
def test_impossible_schedules_are_refused_by_name(arguments, name):
    with pytest.raises(ValueError, match=name):
        cosine_epoch_schedule(*arguments)


@pytest.mark.parametrize(
    ("arguments", "name"),
    [((1e-3, 0, 0), "total_steps"), ((1e-3, 4, 3), "warmup_steps"), ((1e-3, -1, 3), "warmup")],
)
def test_impossible_step_schedules_are_refused_by_name(arguments, name):
    with pytest.raises(ValueError, match=name):
        warmup_cosine_step_schedule(*arguments)

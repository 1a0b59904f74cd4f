from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from equiformer_jax.training import cosine_epoch_schedule


def published_rate(epoch, base, warmup_epochs, num_epochs, warmup_lr=1e-6, min_lr=1e-6):
    if epoch < warmup_epochs:
        return warmup_lr + epoch * (base - warmup_lr) / warmup_epochs
    return min_lr + 0.5 * (base - min_lr) * (1 + math.cos(math.pi * epoch / num_epochs))


@pytest.mark.parametrize(
    ("base", "warmup_epochs", "num_epochs", "steps"),
    [(5e-4, 5, 300, 859), (5e-4, 10, 1500, 118), (2e-4, 10, 2000, 190), (1.5e-4, 0, 6, 3)],
)
def test_every_epoch_has_the_published_rate(base, warmup_epochs, num_epochs, steps):
    schedule = cosine_epoch_schedule(base, warmup_epochs, num_epochs, steps)
    first_steps = jnp.arange(num_epochs) * steps
    expected = [published_rate(t, base, warmup_epochs, num_epochs) for t in range(num_epochs)]
    for offset in (0, steps - 1):
        np.testing.assert_allclose(jax.vmap(schedule)(first_steps + offset), expected, rtol=1e-12)


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

"""What the tests of the recipes share: comparing fields, and learning rates step for step."""

from __future__ import annotations

import numpy as np

from equiformer_jax.data.pipeline import steps_per_epoch
from equiformer_jax.training import recipe


def assert_fields(part, **expected):
    assert {name: part[name] for name in expected} == expected


def published_epoch_rates(base, warmup, num_epochs, steps):
    """SPEC §12.1: one rate for each epoch, `[num_epochs * steps]`."""
    epoch = np.arange(num_epochs, dtype=np.float64)
    warming = 1e-6 + epoch * (base - 1e-6) / warmup
    cosine = 1e-6 + 0.5 * (base - 1e-6) * (1 + np.cos(np.pi * epoch / num_epochs))
    return np.repeat(np.where(epoch < warmup, warming, cosine), steps)


def published_step_rates(base, num_epochs, steps):
    """SPEC §12.4: a rate for each step, `[num_epochs * steps]`."""
    total, warmup = num_epochs * steps, 2 * steps
    step = np.arange(total, dtype=np.float64)
    warming = base * (0.2 + 0.8 * step / warmup)
    cosine = base * (0.01 + 0.5 * 0.99 * (1 + np.cos(np.pi * step / total)))
    return np.where(step <= warmup, warming, cosine)


def rates_of(config, num_structures, chunk=2**16):
    """The rate of every step of a run, from its configuration alone.

    In chunks of one shape, for which jax compiles its operations once.
    """
    num_epochs = config.training.num_epochs
    steps = steps_per_epoch(num_structures, config.training.batch_size)
    length = recipe.RunLength(num_epochs, steps)
    schedule = recipe.build_schedule(config.schedule, config.optimizer.learning_rate, length)
    total = num_epochs * steps
    rates = [schedule(start + np.arange(chunk)) for start in range(0, total, chunk)]
    return np.concatenate(rates)[:total]


def assert_rates(config, num_structures, expected):
    np.testing.assert_allclose(rates_of(config, num_structures), expected, rtol=1e-11, atol=0)

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from equiformer_jax.inference.dynamics.radial_functions import (
    RadialBases,
    build_table,
    table_bases,
)


def bases(distance):
    """Two layers of two functions."""

    def values(d):
        return jnp.stack([jnp.sin(3 * d), jnp.exp(-d)], axis=-1), jnp.stack([d**2, d], axis=-1)

    return RadialBases(*jax.jvp(values, (distance,), (jnp.ones_like(distance),)))


@pytest.mark.parametrize("tolerance", [1e-6, 1e-11])
def test_a_table_keeps_to_its_tolerance(tolerance):
    table, error = build_table(bases, 0.3, 5.0, tolerance)
    assert error <= tolerance
    distance = jnp.asarray(np.random.default_rng(0).uniform(0.3, 5.0, 500))
    read, exact = table_bases(jax.tree.map(jnp.asarray, table), distance), bases(distance)
    for found, wanted in zip(read.values, exact.values, strict=True):
        assert np.abs(found - wanted).max() <= 2 * tolerance * np.abs(wanted).max()
    for found, wanted in zip(read.slopes, exact.slopes, strict=True):
        assert np.abs(found - wanted).max() <= 1e3 * tolerance * np.abs(wanted).max()


def test_slopes_are_the_derivatives_of_what_is_read():
    table, _ = build_table(bases, 0.3, 5.0, 1e-3)
    table = jax.tree.map(jnp.asarray, table)
    distance = jnp.asarray([0.31, 1.7, 4.99])
    read = table_bases(table, distance)
    _, slopes = jax.jvp(
        lambda d: table_bases(table, d).values, (distance,), (jnp.ones_like(distance),)
    )
    for found, wanted in zip(read.slopes, slopes, strict=True):
        assert np.abs(found - wanted).max() < 1e-12


def test_beyond_its_ends_a_table_keeps_its_values():
    table, _ = build_table(bases, 0.3, 5.0, 1e-3)
    table = jax.tree.map(jnp.asarray, table)
    outside, ends = (table_bases(table, jnp.asarray(d)) for d in ([0.0, 9.0], [0.3, 5.0]))
    assert np.array_equal(outside.values[0], ends.values[0])


def test_rough_functions_are_refused():
    def rough(distance):
        jump = jnp.where(distance > 2.001, 1.0, 0.0)[:, None]
        return RadialBases((jump,), (jnp.zeros_like(jump),))

    with pytest.raises(ValueError, match="too rough for a table"):
        build_table(rough, 0.3, 5.0, 1e-6)

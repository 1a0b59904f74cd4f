from __future__ import annotations

import functools

import e3nn_jax as e3nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from equiformer_jax.ops.dropout import drop_path, equivariant_dropout, keep_factors
from equiformer_jax.ops.irreps import Features
from tests.ops.symmetry import assert_features_close, random_features, random_rotation, transform

RATE = 0.3
IRREPS = e3nn.Irreps("8x0e+6x0o+6x1e+4x2o")


@pytest.fixture
def key() -> jax.Array:
    return jax.random.key(7)


@functools.partial(jax.jit, static_argnames="scalars_only")
def dropout(key: jax.Array, features: Features, scalars_only: bool = False) -> Features:
    return equivariant_dropout(key, features, IRREPS, RATE, scalars_only)


def factors_of(features, dropped):
    """What each copy was multiplied with: `[N, mul]`; fails if components of a copy differ."""
    factors = []
    for x, y in zip(features, dropped, strict=True):
        ratio = np.asarray(y / x)
        np.testing.assert_allclose(ratio, ratio[:, :1] * np.ones_like(ratio))
        factors.append(ratio[:, 0])
    return factors


def test_keep_factors_are_zero_or_inverse_and_one_on_average(key):
    factors = np.asarray(keep_factors(key, RATE, (100_000,), jnp.float64))
    np.testing.assert_allclose(np.unique(factors), [0, 1 / (1 - RATE)])
    # Five standard errors of the mean.
    assert factors.mean() == pytest.approx(1, abs=5 * (RATE / (1 - RATE) / 100_000) ** 0.5)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32])
def test_keep_factors_have_the_type_asked_for(dtype, key):
    assert keep_factors(key, RATE, (3,), dtype).dtype == dtype


def test_all_components_of_a_copy_live_or_die_together(key):
    features = random_features(str(IRREPS), 400)
    factors = factors_of(features, dropout(key, features))
    for segment in factors:
        np.testing.assert_allclose(np.unique(segment.round(12)), [0, round(1 / (1 - RATE), 12)])
    copies = np.concatenate(factors, axis=1)
    dead = (copies == 0).mean()
    assert dead == pytest.approx(RATE, abs=5 * (RATE * (1 - RATE) / copies.size) ** 0.5)
    # Copies and segments are independent: correlations vanish.
    correlation = np.corrcoef(copies.T) - np.eye(copies.shape[1])
    assert np.abs(correlation).max() < 5 / 400**0.5


@pytest.mark.parametrize("invert", [False, True], ids=["rotation", "with inversion"])
def test_dropout_is_equivariant(invert, key):
    features, rotation = random_features(str(IRREPS), 5), random_rotation()
    turned = transform(features, IRREPS, rotation, invert)
    assert_features_close(
        dropout(key, turned),
        transform(dropout(key, features), IRREPS, rotation, invert),
    )


def test_scalars_only_leaves_everything_else_alone(key):
    features = random_features(str(IRREPS), 50)
    scalars, *others = dropout(key, features, scalars_only=True)
    assert (scalars == 0).any()
    assert_features_close(tuple(others), features[1:])


def test_dead_segments_stay_dead_and_change_no_other_draw(key):
    features = random_features(str(IRREPS), 5)
    everything = dropout(key, features)
    some = dropout(key, (None, *features[1:]))
    assert_features_close(some, (None, *everything[1:]))


def test_stochastic_depth_draws_once_per_graph(key):
    graphs, sizes = 2000, 3
    features = random_features("2x0e+1x1e", graphs * sizes)
    graph_index = np.repeat(np.arange(graphs), sizes)
    scalars, vectors = factors_of(features, drop_path(key, features, RATE, graph_index, graphs))
    every = np.concatenate([scalars, vectors], axis=1).reshape(graphs, -1)
    np.testing.assert_allclose(every, every[:, :1] * np.ones_like(every))
    np.testing.assert_allclose(np.unique(every.round(12)), [0, round(1 / (1 - RATE), 12)])
    dead = (every[:, 0] == 0).mean()
    assert dead == pytest.approx(RATE, abs=5 * (RATE * (1 - RATE) / graphs) ** 0.5)


def test_stochastic_depth_keeps_dead_segments(key):
    _, vectors = random_features("2x0e+1x1e", 4)
    assert drop_path(key, (None, vectors), RATE, np.zeros(4, int), 1)[0] is None

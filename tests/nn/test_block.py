from __future__ import annotations

import dataclasses

import jax
import numpy as np
import pytest

from equiformer_jax.nn.attention import AttentionSettings
from equiformer_jax.nn.block import TransformerBlock
from tests.nn.small_graph import GRAPH_INDEX, NODE, SETTINGS, small_context
from tests.ops.symmetry import assert_features_close, random_features

HIDDEN = "12x0e+6x1e"
FEATURES, CONTEXT = random_features(NODE, 7), small_context()


def block(
    settings: AttentionSettings, rate: float = 0.0, deterministic: bool = True
) -> TransformerBlock:
    return TransformerBlock(
        settings,
        NODE,
        HIDDEN,
        NODE,
        drop_path_rate=rate,
        deterministic=deterministic,
    )


@pytest.fixture(scope="module")
def variables():
    return jax.jit(block(SETTINGS).init)(jax.random.key(0), FEATURES, CONTEXT)


def test_stochastic_depth_drops_whole_branches_of_whole_graphs(variables):
    """With both branches dropped a graph passes unchanged; with none it is scaled up."""

    @jax.jit
    def draws(keys):
        module = block(SETTINGS, rate=0.5, deterministic=False)
        return jax.vmap(
            lambda key: module.apply(variables, FEATURES, CONTEXT, rngs={"dropout": key})
        )(keys)

    samples = draws(jax.random.split(jax.random.key(1), 64))
    unchanged = [
        np.isclose(sample, x).reshape(64, 7, -1).all(axis=-1)
        for sample, x in zip(samples, FEATURES, strict=True)
    ]
    np.testing.assert_array_equal(unchanged[0], unchanged[1])
    for graph in (0, 1):
        of_graph = unchanged[0][:, graph == GRAPH_INDEX]
        np.testing.assert_array_equal(of_graph, of_graph[:, :1] & np.ones_like(of_graph))
        assert 5 <= of_graph[:, 0].sum() <= 30  # one in four
    assert (unchanged[0][:, 0] != unchanged[0][:, -1]).any()


def test_projection_dropout_acts_on_both_branches(variables):
    settings = dataclasses.replace(SETTINGS, proj_drop=0.999)
    module = block(settings, deterministic=False)
    rngs = {"dropout": jax.random.key(0)}
    result = jax.jit(module.apply)(variables, FEATURES, CONTEXT, rngs=rngs)
    assert_features_close(result, FEATURES)  # both updates are gone

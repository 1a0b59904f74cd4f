from __future__ import annotations

import e3nn_jax as e3nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from equiformer_jax.ops.normalization import EPSILON, graph_norm, layer_norm
from tests.ops.symmetry import assert_features_close, random_features, random_rotation, transform

IRREPS = e3nn.Irreps("6x0e+4x0o+4x1e+3x2o")
NODES, GRAPHS = 7, 3
GRAPH_INDEX = np.array([0, 0, 0, 0, 2, 2, 2])  # graph 1 has no nodes
ONES, ZEROS = np.ones(IRREPS.num_irreps, np.float32), np.zeros(6, np.float32)


def layer(features, weight=ONES, bias=ZEROS, **options):
    return layer_norm(features, IRREPS, weight, bias, **options)


def per_graph(features, weight=ONES, bias=ZEROS, mean_shift=None):
    return graph_norm(features, IRREPS, weight, bias, GRAPH_INDEX, GRAPHS, mean_shift)


KINDS = {
    "layer": layer,
    "layer_v3": lambda x, *affine: layer(x, *affine, center_all=True),
    "layer_v4": lambda x, *affine: layer(x, *affine, center_all=True, mean_shift=ONES / 4),
    "instance": per_graph,
    "graph": lambda x, *affine: per_graph(x, *affine, mean_shift=ONES[:6] / 4),
}
every_kind = pytest.mark.parametrize("norm", [jax.jit(norm) for norm in KINDS.values()], ids=KINDS)


@every_kind
@pytest.mark.parametrize("invert", [False, True], ids=["rotation", "with inversion"])
def test_equivariance(norm, invert):
    rng, rotation = np.random.default_rng(0), random_rotation()
    features = random_features(str(IRREPS), NODES)
    affine = rng.normal(size=17), rng.normal(size=6)
    turned = transform(features, IRREPS, rotation, invert)
    assert_features_close(
        norm(turned, *affine), transform(norm(features, *affine), IRREPS, rotation, invert)
    )


@every_kind
def test_weights_scale_copies_and_the_bias_shifts_even_scalars(norm):
    rng, features = np.random.default_rng(0), random_features(str(IRREPS), NODES)
    weight, bias = rng.normal(size=17), rng.normal(size=6)
    starts = np.cumsum([0, 6, 4, 4, 3])
    plain = norm(features)
    scaled = [x * weight[a:b] for x, a, b in zip(plain, starts[:-1], starts[1:], strict=True)]
    assert_features_close(norm(features, weight, bias), (scaled[0] + bias, *scaled[1:]))


@every_kind
def test_dead_segments_stay_dead(norm):
    features = random_features(str(IRREPS), NODES)
    wanted = norm(features)
    assert_features_close(norm((features[0], None, *features[2:])), (wanted[0], None, *wanted[2:]))


@every_kind
def test_statistics_are_never_below_float32(norm):
    features = tuple(jnp.asarray(x, jnp.bfloat16) for x in random_features(str(IRREPS), NODES))
    assert {x.dtype for x in norm(features)} == {jnp.dtype(jnp.float32)}


def test_layer_norm_has_unit_mean_square_per_node_and_degree():
    features = [100 * x for x in random_features(str(IRREPS), NODES)]
    for x in layer(features):
        np.testing.assert_allclose(np.mean(np.square(x), axis=(1, 2)), 1, rtol=1e-6)
    scalars, odd = layer(features)[:2]
    np.testing.assert_allclose(np.mean(scalars, axis=-1), 0, atol=1e-12)
    assert np.abs(np.mean(odd, axis=-1)).min() > 1e-3  # odd scalars are not centered


def test_centering_every_degree_removes_its_mean():
    for x in layer(random_features(str(IRREPS), NODES), center_all=True):
        np.testing.assert_allclose(np.mean(x, axis=-1), 0, atol=1e-12)


def test_graph_norm_has_unit_mean_square_per_graph_and_channel():
    features = [100 * x for x in random_features(str(IRREPS), NODES)]
    for x in per_graph(features):
        for graph in (0, 2):
            rows = np.asarray(x)[graph == GRAPH_INDEX]
            np.testing.assert_allclose(np.mean(rows**2, axis=(0, 1)), 1, rtol=1e-6)
    scalars = np.asarray(per_graph(features)[0])
    np.testing.assert_allclose(scalars[GRAPH_INDEX == 0].mean(0), 0, atol=1e-12)


def test_graphs_do_not_see_each_other():
    features = random_features(str(IRREPS), NODES)
    changed = [np.where(GRAPH_INDEX[:, None, None] == 0, x, 5 * x + 1) for x in features]
    before, after = per_graph(features), per_graph(changed)
    assert_features_close(tuple(x[:4] for x in after), tuple(x[:4] for x in before))


@every_kind
def test_zeros_stay_zeros(norm):
    """Epsilon keeps the norm of nothing finite."""
    assert EPSILON == 1e-5
    for x in norm([np.zeros_like(x) for x in random_features(str(IRREPS), NODES)]):
        np.testing.assert_array_equal(x, 0)

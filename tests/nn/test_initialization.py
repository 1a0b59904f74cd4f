"""New parameters come from the distributions of the official release: their moments."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from equiformer_jax.nn.attention import AttentionSettings, GraphAttention
from equiformer_jax.nn.embedding import EdgeDegreeEmbedding
from equiformer_jax.nn.linear import EquivariantLinear, LinearWeights, NodeEmbedding
from equiformer_jax.nn.normalization import EquivariantNorm
from equiformer_jax.nn.radial import RadialBasis, RadialNetwork
from tests.nn.small_graph import small_context
from tests.ops.symmetry import random_features

KEY = 11


def initial_parameters(module, *arguments):
    init = jax.jit(module.init)
    return jax.tree.map(np.asarray, init(jax.random.key(KEY), *arguments)["params"])


def assert_normal(sample: np.ndarray, scale: float) -> None:
    """Mean, standard deviation and fourth moment, each within five of its standard errors."""
    z, count = sample.ravel() / scale, sample.size
    assert z.mean() == pytest.approx(0, abs=5 / count**0.5)
    assert (z**2).mean() == pytest.approx(1, abs=5 * (2 / count) ** 0.5)
    assert (z**4).mean() == pytest.approx(3, abs=5 * (96 / count) ** 0.5)


def assert_uniform(sample: np.ndarray, low: float, high: float) -> None:
    z, count = (sample.ravel() - low) / (high - low), sample.size
    assert z.min() >= 0
    assert z.max() <= 1
    # A flat distribution comes within 10 / count of its ends, but for one time in 20,000.
    assert z.min() < 10 / count
    assert z.max() > 1 - 10 / count
    assert z.mean() == pytest.approx(0.5, abs=5 / (12 * count) ** 0.5)
    assert (z**2).mean() == pytest.approx(1 / 3, abs=5 * (4 / 45 / count) ** 0.5)


def test_linear_weights_are_normal_with_variance_one_over_fan_in():
    params = initial_parameters(LinearWeights("100x0e+20x1e+9x2o", "60x0e+80x1e+5x1o"))
    assert set(params) == {"0e", "1e", "bias"}
    assert params["0e"].shape == (100, 60)
    assert_normal(params["0e"], 100**-0.5)
    assert_normal(params["1e"], 20**-0.5)
    assert not params["bias"].any()


def test_a_new_linear_map_keeps_the_variance():
    module, features = (
        EquivariantLinear("64x0e+32x1e", "64x0e+64x1e"),
        random_features("64x0e+32x1e", 500),
    )
    for x in module.apply({"params": initial_parameters(module, features)}, features):
        assert float(np.var(x)) == pytest.approx(1, abs=0.15)


def test_radial_networks_are_uniform_with_bound_one_over_root_fan_in():
    params = initial_parameters(RadialNetwork((40, 30), 500), np.zeros((1, 50)))
    assert_uniform(params["dense_0"]["kernel"], -(50**-0.5), 50**-0.5)
    assert_uniform(params["dense_1"]["kernel"], -(40**-0.5), 40**-0.5)
    assert_uniform(params["kernel"], -(30**-0.5), 30**-0.5)
    assert_uniform(params["offset"], -(30**-0.5), 30**-0.5)
    for index in (0, 1):
        assert not params[f"dense_{index}"]["bias"].any()
        assert (params[f"norm_{index}"]["scale"] == 1).all()
        assert not params[f"norm_{index}"]["bias"].any()


def test_atom_embeddings_are_standard_normal_whatever_the_number_of_types():
    params = initial_parameters(NodeEmbedding(30, "200x0e+10x1e"), np.zeros(1, int))
    assert set(params["table"]) == {"0e", "bias"}
    assert_normal(params["table"]["0e"], 1)


def test_attention():
    settings = AttentionSettings(
        irreps_sh="1x0e+1x1e",
        irreps_head="60x0e+8x1e",
        irreps_pre_attn=None,
        num_heads=12,
        fc_neurons=(8, 8),
    )
    irreps = "60x0e+8x1e"
    module = GraphAttention(settings, irreps, irreps)
    features = random_features(irreps, 7)
    message = initial_parameters(module, features, small_context())["message"]
    bound = (6 / (12 + 60)) ** 0.5
    assert message["logits"]["alpha_dot"].shape == (12, 60)
    assert_uniform(message["logits"]["alpha_dot"], -bound, bound)
    assert_normal(message["tensor_product_weight"], 1)


def test_constant_of_the_edge_degree_embedding_is_standard_normal():
    module = EdgeDegreeEmbedding("400x0e+4x1e", "1x0e+1x1e", (8, 8), 3.0)
    params = initial_parameters(module, small_context())
    assert_normal(params["constant"]["0e"], 1)


def test_bases():
    gaussian = initial_parameters(RadialBasis("gaussian", 500, 5.0), np.ones(1))
    assert_uniform(gaussian["mean"], 0, 1)
    assert_uniform(gaussian["std"], 1 / 500, 1)
    assert (gaussian["weight"], gaussian["bias"]) == (1, 0)
    bessel = initial_parameters(RadialBasis("bessel", 4, 5.0), np.ones(1))
    np.testing.assert_allclose(bessel["frequencies"], np.pi * np.arange(1, 5), rtol=1e-6)
    assert not RadialBasis("exp", 4, 5.0).init(jax.random.key(KEY), np.ones(1))


@pytest.mark.parametrize(
    ("kind", "mean_shift"),
    [("layer", None), ("fast_layer", None), ("instance", None), ("layer_v3", None)]
    + [("graph", [1, 1]), ("layer_v4", [1, 1, 0, 0, 0])],
)
def test_norms_do_nothing_but_normalize(kind, mean_shift):
    irreps = "2x0e+3x1e"
    features, graph_index = random_features(irreps, 4), np.zeros(4, int)
    params = EquivariantNorm(irreps, kind).init(jax.random.key(KEY), features, graph_index, 1)
    params = params["params"]
    np.testing.assert_array_equal(params["affine_weight"], np.ones(5))
    np.testing.assert_array_equal(params["affine_bias"], np.zeros(2))
    assert ("mean_shift" in params) == (mean_shift is not None)
    if mean_shift is not None:
        np.testing.assert_array_equal(params["mean_shift"], mean_shift)

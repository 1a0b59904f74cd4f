from __future__ import annotations

import e3nn_jax as e3nn
import jax.numpy as jnp
import numpy as np
import pytest

from equiformer_jax.ops.activations import (
    gate,
    gate_factors,
    scaled_sigmoid,
    scaled_silu,
    scaled_smooth_leaky_relu,
)
from equiformer_jax.ops.irreps import gate_input
from tests.ops.symmetry import assert_features_close, random_features, random_rotation, transform


@pytest.mark.parametrize(
    "function", [scaled_silu, scaled_sigmoid, scaled_smooth_leaky_relu], ids=lambda f: f.__name__
)
def test_second_moment_is_one(function):
    points, weights = np.polynomial.hermite_e.hermegauss(80)
    moment = np.sum(weights * np.square(function(points))) / np.sqrt(2 * np.pi)
    # The official scales are averages over a million samples, right to about 2e-3.
    assert moment == pytest.approx(1, abs=5e-3)


def test_smooth_leaky_relu_has_the_slopes_of_its_name():
    x = jnp.array([-1000.0, 1000.0])
    np.testing.assert_allclose(scaled_smooth_leaky_relu(x) / x / 1.531320475574866, [0.2, 1.0])


def test_gate_scales_the_copies_in_order():
    irreps = e3nn.Irreps("2x0e+1x0o+2x1e")
    assert gate_input(irreps) == e3nn.Irreps("5x0e+1x0o+2x1e")
    scalars, odd, vectors = features = random_features(str(gate_input(irreps)), 4)
    gates = scaled_sigmoid(scalars[..., 2:])
    wanted = (scaled_silu(scalars[..., :2]), odd * gates[..., :1], vectors * gates[..., 1:])
    assert_features_close(gate(features, irreps), wanted)


def test_gate_without_gated_irreps_is_silu():
    scalars = random_features("3x0e", 4)
    assert_features_close(gate(scalars, e3nn.Irreps("3x0e")), (scaled_silu(scalars[0]),))


def test_gate_leaves_dead_segments_dead():
    irreps = e3nn.Irreps("2x0e+2x1e+1x2e")
    scalars, _, tensors = random_features(str(gate_input(irreps)), 4)
    alive = gate((scalars, jnp.zeros((4, 3, 2)), tensors), irreps)
    assert_features_close(gate((scalars, None, tensors), irreps), (alive[0], None, alive[2]))


@pytest.mark.parametrize("invert", [False, True], ids=["rotation", "with inversion"])
def test_gate_is_equivariant(invert):
    irreps, rotation = e3nn.Irreps("2x0e+1x0o+2x1e+1x1o+1x2e"), random_rotation()
    features = random_features(str(gate_input(irreps)), 4)
    turned = transform(features, gate_input(irreps), rotation, invert)
    assert_features_close(
        gate(turned, irreps), transform(gate(features, irreps), irreps, rotation, invert)
    )


def test_gate_factors_split_scalars_from_gates():
    x = np.linspace(-2, 2, 10).reshape(2, 5)
    activated, gates = gate_factors(x, 2)
    np.testing.assert_allclose(activated, scaled_silu(x[:, :2]))
    np.testing.assert_allclose(gates, scaled_sigmoid(x[:, 2:]))

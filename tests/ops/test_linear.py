from __future__ import annotations

import e3nn_jax as e3nn
import jax.numpy as jnp
import numpy as np
import pytest

from equiformer_jax.ops.linear import LinearParameters, linear
from tests.ops.symmetry import assert_features_close, random_features, random_rotation, transform

SOURCE, TARGET = e3nn.Irreps("3x0e+2x0o+2x1e+1x2e"), e3nn.Irreps("2x0e+1x0o+3x1e+2x1o")


def random_parameters(use_bias: bool = True) -> LinearParameters:
    rng = np.random.default_rng(0)
    kernels = (rng.normal(size=(3, 2)), rng.normal(size=(2, 1)), rng.normal(size=(2, 3)), None)
    return LinearParameters(kernels, rng.normal(size=2) if use_bias else None)


def test_one_matrix_per_irrep_and_a_bias_on_even_scalars_alone():
    parameters, features = random_parameters(), random_features(str(SOURCE), 4)
    wanted = (
        np.einsum("niu,uw->niw", features[0], parameters.kernels[0]) + parameters.bias,
        np.einsum("niu,uw->niw", features[1], parameters.kernels[1]),
        np.einsum("niu,uw->niw", features[2], parameters.kernels[2]),
        np.zeros((4, 3, 2)),  # no 1o comes in
    )
    assert_features_close(linear(parameters, features, SOURCE, TARGET), wanted)


def test_dead_inputs_give_dead_outputs():
    features = random_features(str(SOURCE), 4)
    outputs = linear(random_parameters(), (features[0], None, None, features[3]), SOURCE, TARGET)
    assert [x is None for x in outputs] == [False, True, True, False]


@pytest.mark.parametrize("invert", [False, True], ids=["rotation", "with inversion"])
def test_equivariance(invert):
    parameters, features = random_parameters(), random_features(str(SOURCE), 4)
    rotation = random_rotation()
    turned = transform(features, SOURCE, rotation, invert)
    outputs = linear(parameters, features, SOURCE, TARGET)
    assert_features_close(
        linear(parameters, turned, SOURCE, TARGET), transform(outputs, TARGET, rotation, invert)
    )


def test_features_decide_the_precision():
    features = tuple(jnp.asarray(x, jnp.bfloat16) for x in random_features(str(SOURCE), 4))
    outputs = linear(random_parameters(), features, SOURCE, TARGET)
    assert {x.dtype for x in outputs} == {jnp.dtype(jnp.bfloat16)}


def test_asking_for_a_bias_that_is_not_there():
    assert random_parameters().scalar_bias.shape == (2,)
    with pytest.raises(ValueError, match="no bias"):
        _ = random_parameters(use_bias=False).scalar_bias

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from equiformer_jax.nn.radial import RadialBasis, RadialNetwork


def test_an_unknown_basis_is_named_with_those_that_exist():
    with pytest.raises(ValueError, match="basis_type is 'fourier'; expected gaussian"):
        RadialBasis("fourier", 4, 5.0).init(jax.random.key(0), np.ones(1))


def test_weights_of_edges_are_the_last_layer_and_the_offset():
    network, edges = RadialNetwork((6,), 5), np.random.default_rng(0).normal(size=(7, 3))
    output, _ = network.init_with_output(jax.random.key(0), edges)
    np.testing.assert_allclose(
        output.per_edge(), output.hidden @ output.kernel + output.offset, rtol=1e-12
    )
    assert output.hidden.shape == (7, 6)


def test_low_precision_stays_low_but_its_statistics_do_not():
    """A large mean would drown the spread if it were summed in bfloat16."""
    network, edges = RadialNetwork((64,), 5), np.random.default_rng(0).normal(size=(7, 3))
    variables = network.init(jax.random.key(0), edges)
    variables["params"]["dense_0"]["bias"] += 30.0
    low = network.apply(variables, jnp.asarray(edges, jnp.bfloat16)).hidden
    assert low.dtype == jnp.bfloat16
    assert np.isfinite(low).all()
    assert float(jnp.std(low.astype(jnp.float32))) > 0.1

from __future__ import annotations

import e3nn_jax as e3nn
import numpy as np
import pytest

from equiformer_jax.ops.heads import (
    heads_to_library_order,
    library_order_to_heads,
    split_heads,
)
from tests.ops.symmetry import assert_features_close, random_features

IRREPS = ["2x0e+4x1e+2x2e", "2x0e+4x0o+6x1e+2x1o+2x2o", "4x0e+2x0o+2x1e+2x1o"]


def test_channels_are_head_major():
    np.testing.assert_array_equal(split_heads(np.arange(6), 2), [[0, 1, 2], [3, 4, 5]])


def test_one_parity_per_degree_is_left_alone():
    features = random_features(IRREPS[0], 3)
    assert_features_close(library_order_to_heads(features, e3nn.Irreps(IRREPS[0])), features)


def test_two_parities_are_read_odd_first():
    irreps = e3nn.Irreps("2x0e+4x0o")
    features = (np.arange(2).reshape(1, 1, 2), 10 + np.arange(4).reshape(1, 1, 4))
    even, odd = library_order_to_heads(features, irreps)
    np.testing.assert_array_equal(even[0, 0], [10, 11])
    np.testing.assert_array_equal(odd[0, 0], [12, 13, 0, 1])


@pytest.mark.parametrize("irreps", IRREPS)
def test_the_two_orders_are_inverses(irreps):
    features, irreps = random_features(irreps, 3), e3nn.Irreps(irreps)
    there = library_order_to_heads(features, irreps)
    assert_features_close(heads_to_library_order(there, irreps), features)
    back = heads_to_library_order(features, irreps)
    assert_features_close(library_order_to_heads(back, irreps), features)

from __future__ import annotations

import e3nn_jax as e3nn
import numpy as np
import pytest

from equiformer_jax.ops.irreps import (
    alive,
    alive_segment,
    canonical_irreps,
    concatenate_components,
    gate_input,
    has_irrep,
    multiplicity,
    repeat_irreps,
    sort_even_first,
    split_components,
    split_gate,
    split_last_axis,
    to_features,
    to_irreps_array,
)
from tests.ops.symmetry import assert_features_close, random_features

IRREPS = "3x0e+1x0o+2x1e+4x2o"


def test_canonical_irreps_merge_neighbors():
    assert canonical_irreps("2x0e+3x0e+1x1o") == e3nn.Irreps("5x0e+1x1o")


@pytest.mark.parametrize(
    ("irreps", "complaint"),
    [
        ("16x1e+8x0e", r"ascending degree, even parity first, as in '8x0e\+16x1e'"),
        ("8x0o+8x0e", r"even parity first, as in '8x0e\+8x0o'"),
        ("8x0e+4x1e+8x0e", r"every irrep once"),
        ("128x0e+64xbanana", "is not a list of irreps such as"),
        ("", "is empty"),
    ],
)
def test_errors_name_the_field_its_value_and_what_was_expected(irreps, complaint):
    with pytest.raises(ValueError, match=complaint) as error:
        canonical_irreps(irreps, "EquiformerConfig.irreps_head")
    assert str(error.value).startswith(f"EquiformerConfig.irreps_head={irreps!r}")


def test_even_first():
    assert sort_even_first("2x1o+1x0o+3x1e+2x0e+1x0o") == e3nn.Irreps("2x0e+2x0o+3x1e+2x1o")


def test_counting():
    irreps = e3nn.Irreps("3x0e+1x0o+2x0e")
    assert multiplicity(irreps, "0e") == 5
    assert multiplicity(irreps, "1e") == 0
    assert has_irrep(irreps, "0o")
    assert not has_irrep(irreps, "1e")
    assert repeat_irreps("3x0e+2x1e", 4) == e3nn.Irreps("12x0e+8x1e")


def test_a_gate_for_every_copy_that_is_not_an_even_scalar():
    irreps = e3nn.Irreps(IRREPS)
    assert split_gate(irreps) == (3, 7, e3nn.Irreps("1x0o+2x1e+4x2o"))
    assert gate_input(irreps) == e3nn.Irreps("10x0e+1x0o+2x1e+4x2o")


def test_rows_have_the_component_fastest():
    scalars, vectors = to_features(np.arange(8), "2x0e+2x1e")
    np.testing.assert_array_equal(scalars, [[0, 1]])
    np.testing.assert_array_equal(vectors, [[2, 5], [3, 6], [4, 7]])


def test_rows_and_features_are_inverses():
    features = random_features(IRREPS, 5)
    array = to_irreps_array(features, IRREPS)
    assert array.irreps == e3nn.Irreps(IRREPS)
    assert_features_close(to_features(array), features)
    assert_features_close(to_features(array.array, IRREPS), features)


def test_components_side_by_side_and_back():
    features = random_features(IRREPS, 5)
    flat = concatenate_components(features)
    assert flat.shape == (5, e3nn.Irreps(IRREPS).dim)
    assert_features_close(split_components(flat, e3nn.Irreps(IRREPS)), features)


def test_dead_segments_are_refused_where_their_values_are_needed():
    assert alive((1, 2)) == (1, 2)
    assert alive_segment((None, 2), 1) == 2
    with pytest.raises(ValueError, match="segment 0 of 2 is dead"):
        alive((None, 2))


def test_pieces_of_the_last_axis():
    x = np.arange(12.0).reshape(2, 6)
    pieces = split_last_axis(x, (1, 0, 5))
    assert [piece.shape for piece in pieces] == [(2, 1), (2, 0), (2, 5)]
    np.testing.assert_array_equal(np.concatenate(pieces, axis=-1), x)
    assert split_last_axis(x, ()) == []

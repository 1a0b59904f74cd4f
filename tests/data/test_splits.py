from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from equiformer_jax.data.splits import (
    SPLIT_NAMES,
    block_split,
    csv_split,
    md17_split,
    permutation_split,
    qm9_split,
)


def sizes(splits):
    return [len(splits[name]) for name in SPLIT_NAMES]


def check(splits, num_structures):
    """Three int64 arrays, inside the range, without an index in two of them."""
    assert tuple(splits) == SPLIT_NAMES
    assert all(indices.dtype == np.int64 for indices in splits.values())
    together = np.concatenate(list(splits.values()))
    assert len(np.unique(together)) == len(together)
    assert len(together) == 0 or 0 <= together.min() <= together.max() < num_structures


# Written down from NumPy 2.4; the published splits rest on this generator.
def test_md17_split_of_aspirin_is_the_published_one():
    splits = md17_split(211_762)
    assert sizes(splits) == [950, 50, 210_762]
    check(splits, 211_762)
    assert splits["train"][:5].tolist() == [205564, 163232, 197518, 140196, 193438]
    assert splits["train"][-2:].tolist() == [134110, 123958]
    assert splits["validation"][:3].tolist() == [9455, 90957, 89629]
    assert splits["test"][:3].tolist() == [79390, 112237, 84126]


def test_qm9_split_is_the_published_one():
    splits = qm9_split()
    assert sizes(splits) == [110_000, 10_000, 10_831]
    check(splits, 130_831)
    assert splits["train"][:5].tolist() == [34769, 76096, 108805, 71268, 79788]
    assert splits["validation"][:3].tolist() == [11009, 104304, 58424]
    assert splits["test"][:3].tolist() == [63823, 99719, 73336]


def test_pieces_are_cut_from_the_permutation_in_order():
    order = np.random.default_rng(7).permutation(10)
    splits = permutation_split(10, 4, 2, seed=7)
    np.testing.assert_array_equal(np.concatenate(list(splits.values())), order)
    assert sizes(permutation_split(10, 4, 2, 3)) == [4, 2, 3]
    assert sizes(permutation_split(10, 8, 2)) == [8, 2, 0]


@given(st.data())
def test_permutation_splits_are_disjoint(data):
    total = data.draw(st.integers(1, 200))
    train = data.draw(st.integers(1, total))
    validation = data.draw(st.integers(0, total - train))
    test = data.draw(st.none() | st.integers(0, total - train - validation))
    splits = permutation_split(total, train, validation, test, seed=data.draw(st.integers(0, 9)))
    check(splits, total)
    expected = total - train - validation if test is None else test
    assert sizes(splits) == [train, validation, expected]


@given(st.integers(1_001, 3_000))
def test_md17_splits_use_every_frame(num_frames):
    splits = md17_split(num_frames)
    check(splits, num_frames)
    assert sizes(splits) == [950, 50, num_frames - 1_000]


@given(st.integers(14, 5_000))
def test_scaled_qm9_splits_use_every_molecule(num_molecules):
    splits = qm9_split(num_molecules, scaled=True)
    check(splits, num_molecules)
    assert sum(sizes(splits)) == num_molecules
    assert abs(len(splits["train"]) - num_molecules * 110_000 / 130_831) <= 1
    assert min(sizes(splits)) >= 1


def test_another_number_of_molecules_is_refused_unless_scaling_is_asked_for():
    with pytest.raises(ValueError, match="num_molecules: .*130831 molecules, got 133885"):
        qm9_split(133_885)
    with pytest.raises(ValueError, match="num_molecules: 13 are too few"):
        qm9_split(13, scaled=True)


@given(st.data())
def test_csv_splits_take_validation_from_training(data):
    total = data.draw(st.integers(3, 100))
    order = np.array(data.draw(st.permutations(range(total))))
    num_known = data.draw(st.integers(2, total - 1))
    known, test = order[:num_known], order[num_known:]
    num_validation = data.draw(st.integers(0, num_known - 1))
    splits = csv_split(known, test, num_validation)
    check(splits, total)
    assert sizes(splits) == [num_known - num_validation, num_validation, total - num_known]
    np.testing.assert_array_equal(splits["test"], test)
    assert set(splits["train"]) | set(splits["validation"]) == set(known)


def test_validation_of_sorted_training_indices_is_drawn_from_all_of_them():
    splits = csv_split(np.arange(1000), [2000], 50)
    assert splits["validation"].min() < 200 and splits["validation"].max() > 800
    again = csv_split(np.arange(1000), [2000], 50)
    np.testing.assert_array_equal(again["validation"], splits["validation"])


def test_blocks_are_contiguous_with_gaps():
    splits = block_split(20, (8, 3, 4), gap=2)
    assert splits["train"].tolist() == list(range(8))
    assert splits["validation"].tolist() == [10, 11, 12]
    assert splits["test"].tolist() == [15, 16, 17, 18]


def test_fractions_share_what_the_gaps_leave():
    splits = block_split(110, (0.8, 0.1, 0.1), gap=5)
    assert sizes(splits) == [80, 10, 10]
    assert splits["validation"][0] == 85 and splits["test"][-1] == 109
    assert sizes(block_split(110, (0.4, 0.1, 0.1), gap=5)) == [40, 10, 10]


@given(
    sizes_=st.tuples(st.integers(1, 20), st.integers(1, 20), st.integers(1, 20)),
    gap=st.integers(0, 9),
    rest=st.integers(0, 9),
)
def test_blocks_are_disjoint_and_apart(sizes_, gap, rest):
    total = sum(sizes_) + 2 * gap + rest
    splits = block_split(total, sizes_, gap)
    check(splits, total)
    assert sizes(splits) == list(sizes_)
    train, validation, test = splits.values()
    assert validation[0] - train[-1] == test[0] - validation[-1] == gap + 1


@given(num_frames=st.integers(30, 10_000), gap=st.integers(0, 5))
def test_fractions_of_sum_one_use_every_frame_but_the_gaps(num_frames, gap):
    splits = block_split(num_frames, (0.7, 0.1, 0.2), gap)
    check(splits, num_frames)
    assert sum(sizes(splits)) == num_frames - 2 * gap


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: permutation_split(10, 8, 3), "num_structures: 10 are too few for num_train 8"),
        (lambda: permutation_split(10, 8, 1, 2), "num_structures: 10 are too few"),
        (lambda: permutation_split(10, 0, 1), "num_train: expected .* at least 1, got 0"),
        (lambda: permutation_split(10, 5, -1), "num_validation: .* at least 0, got -1"),
        (lambda: permutation_split(10, 5, 1, -1), "num_test: .* at least 0, got -1"),
        (lambda: permutation_split(10.0, 5, 1), "num_structures: expected a whole number"),
        (lambda: permutation_split(10, 5, 1, seed=-1), "seed: "),
        (lambda: md17_split(1000), "num_frames: .* at least 1001, got 1000"),
        (lambda: csv_split([1, 2], [2, 3], 1), "index 2 is in two splits"),
        (lambda: csv_split([1, 1, 2], [3], 1), "train_indices: index 1 is named more than once"),
        (lambda: csv_split([1, 2], [-3], 1), "test_indices: .* from 0 on, got -3"),
        (lambda: csv_split([1.0, 2.0], [3], 1), "train_indices: expected a list of integers"),
        (lambda: csv_split([1, 2], [3], 2), "num_validation: expected less than the 2"),
        (lambda: block_split(20, (8, 3, 4), gap=3), "num_frames: 20 are too few"),
        (lambda: block_split(20, (8, 3, 4), gap=-1), "gap: .* at least 0, got -1"),
        (lambda: block_split(20, (8, 3), gap=0), "sizes: expected three"),
        (lambda: block_split(20, (8, 0, 3), gap=0), "sizes: .* at least 1, got 0"),
        (lambda: block_split(20, (0.8, 0.2, 0.1), gap=0), "sizes: .* a sum of at most 1"),
        (lambda: block_split(20, (8, 0.1, 0.1), gap=0), "sizes: .* fractions"),
        (lambda: block_split(6, (0.5, 0.25, 0.25), gap=3), "num_frames: 6 are too few"),
    ],
)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()

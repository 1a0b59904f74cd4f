from __future__ import annotations

import numpy as np
import pytest

from equiformer_jax.data.budgets import (
    Budget,
    batch_fill,
    budget_for,
    fill_of_plan,
    rounded_budget,
    smallest_fitting,
)
from tests.data.size_samples import sizes_of

SIZES = sizes_of((7, 64), (3, 10), (4, 30))
PLAN = [[np.array([0]), np.array([1])], [np.array([1]), np.array([2])]]


def test_a_budget_leaves_room_for_padding_and_is_rounded_up():
    assert rounded_budget(7, 64, 2) == Budget(n_edge=64, n_node=8, n_graph=3)
    assert rounded_budget(8, 65, 2) == Budget(n_edge=128, n_node=16, n_graph=3)
    assert rounded_budget(1, 0, 1) == Budget(n_edge=64, n_node=8, n_graph=2)


def test_known_batches_get_the_budget_of_the_largest_part():
    assert budget_for(PLAN, SIZES) == rounded_budget(7, 64, 1)


def test_budgets_of_two_splits_unite():
    assert Budget(10, 8, 2).union(Budget(6, 9, 3)) == Budget(10, 9, 3)


def test_the_first_budget_that_holds_every_device_is_taken():
    budgets = [Budget(30, 5, 2), Budget(64, 8, 2)]
    assert smallest_fitting(budgets, PLAN[1], SIZES) == budgets[0]
    assert smallest_fitting(budgets, PLAN[0], SIZES) == budgets[1]


def test_a_batch_that_fits_no_budget_is_named():
    with pytest.raises(
        ValueError, match=r"graphs \[\[1, 2\]\] needs 8 nodes, 40 edges and 3 graphs"
    ):
        smallest_fitting([Budget(4, 8, 3)], [np.array([1, 2])], SIZES)


def test_the_fill_of_a_batch_is_its_share_of_real_work():
    assert batch_fill(PLAN[0], SIZES, Budget(80, 10, 2)) == (10 / 20, 74 / 160)


def test_the_fill_of_an_epoch_counts_slots_and_batches_of_each_budget():
    budgets = [Budget(30, 5, 2), Budget(64, 8, 2), Budget(640, 80, 2)]
    fill = fill_of_plan(PLAN, SIZES, budgets)
    assert fill.nodes == pytest.approx((10 + 7) / (2 * 8 + 2 * 5))
    assert fill.edges == pytest.approx((74 + 40) / (2 * 64 + 2 * 30))
    assert fill.batches == (1, 1, 0)

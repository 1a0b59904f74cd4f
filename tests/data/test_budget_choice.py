from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from equiformer_jax.data.budget_choice import choose_budgets
from equiformer_jax.data.budgets import budget_for, fill_of_plan, smallest_fitting
from equiformer_jax.data.planning import (
    RECOMMENDED_WINDOW,
    GraphSizes,
    plan_epoch,
    plan_evaluation,
    split_over_devices,
)
from tests.data import size_samples
from tests.data.test_planning import shuffled, sizes_strategy


def check_holds_everything(sizes, batch_size, devices, window, seed):
    budgets = choose_budgets(sizes, batch_size, devices, window)
    assert budgets == sorted(budgets)
    assert 1 <= len(budgets) <= 3
    assert all(type(slots) is int for b in budgets for slots in (b.n_node, b.n_edge, b.n_graph))
    by_size = np.argsort(-sizes.edges)[:batch_size]
    options = {"batch_size": batch_size, "num_devices": devices, "window": window}
    plan = plan_epoch(shuffled(sizes, seed), sizes, **options)
    for parts in [*plan, split_over_devices(by_size, sizes, devices)]:
        budget = smallest_fitting(budgets, parts, sizes)
        for part in parts:
            nodes, edges = sizes.nodes[part].sum(), sizes.edges[part].sum()
            assert budget.holds(nodes, edges, len(part))


@given(sizes_strategy, st.integers(1, 12), st.integers(1, 3), st.integers(1, 9), st.integers(0, 99))
def test_no_batch_is_too_large_for_the_chosen_budgets(sizes, batch_size, devices, window, seed):
    check_holds_everything(sizes, batch_size, devices, window, seed)


@pytest.mark.parametrize("make", [size_samples.one_giant, size_samples.bimodal])
@pytest.mark.parametrize(("devices", "window"), [(1, 1), (4, 1), (1, 8), (4, 8), (3, 8)])
def test_uneven_sizes_hold_too(make, devices, window):
    check_holds_everything(make(), 16, devices, window, seed=0)


def test_one_budget_is_enough_for_equal_molecules():
    sizes = GraphSizes(np.full(100, 21), np.random.default_rng(0).integers(300, 312, 100))
    for window in (1, 16):
        (budget,) = choose_budgets(sizes, batch_size=8, num_devices=2, window=window)
        assert budget.n_graph == 5
        assert budget.n_node == 88  # 4 x 21 atoms, one for padding, rounded up to eights
        assert 4 * 311 - 64 < budget.n_edge <= 4 * 311 + 64


def test_one_giant_does_not_make_all_batches_large():
    budgets = choose_budgets(size_samples.one_giant(2000), batch_size=10)
    assert budgets[0].n_node == 104
    assert budgets[-1].n_node > 5000


# Batches of 64 and 128 molecules, and of 16 slabs on each device.
CASES = [
    *((size_samples.molecules, b, d) for b, d in ((128, 1), (128, 8), (64, 1), (64, 8))),
    *((size_samples.slabs, b, d) for b, d in ((16, 1), (32, 2), (128, 8))),
]


@pytest.mark.parametrize(("make", "batch_size", "devices"), CASES)
def test_an_epoch_is_at_least_nine_tenths_real_work(make, batch_size, devices):
    sizes = make(10_000)
    budgets = choose_budgets(sizes, batch_size, devices, RECOMMENDED_WINDOW)
    for seed in (1, 2):
        options = {"batch_size": batch_size, "num_devices": devices, "window": RECOMMENDED_WINDOW}
        fill = fill_of_plan(plan_epoch(shuffled(sizes, seed), sizes, **options), sizes, budgets)
        assert fill.nodes > 0.92
        assert fill.edges > 0.92
        assert len(budgets) == 1 or fill.batches[-1] == 0  # the largest shape is not compiled
    plan = plan_evaluation(sizes, batch_size, devices)
    fill = fill_of_plan(plan, sizes, [budget_for(plan, sizes)])
    assert min(fill.nodes, fill.edges) > 0.9


def test_smaller_budgets_save_work_without_a_window():
    sizes = size_samples.slabs(5000)
    budgets = choose_budgets(sizes, 16)
    plan = plan_epoch(shuffled(sizes), sizes, batch_size=16, num_devices=1)
    assert len(budgets) == 3
    several, one = (fill_of_plan(plan, sizes, b) for b in (budgets, budgets[-1:]))
    assert several.edges > 0.75 > 2 * one.edges


def test_the_choice_is_the_same_every_time():
    sizes = size_samples.slabs(500)
    assert choose_budgets(sizes, 16, 2, 8) == choose_budgets(sizes, 16, 2, 8)


@pytest.mark.parametrize("name", ["batch_size", "num_devices", "window"])
def test_arguments_must_be_positive(name):
    options = {"batch_size": 2, "num_devices": 1, "window": 1} | {name: 0}
    with pytest.raises(ValueError, match=f"{name}: expected at least 1, got 0"):
        choose_budgets(size_samples.all_equal(4), **options)

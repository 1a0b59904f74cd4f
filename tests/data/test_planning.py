from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from equiformer_jax.data import planning
from equiformer_jax.data.planning import GraphSizes, plan_epoch, plan_evaluation
from tests.data import size_samples

sizes_strategy = st.lists(
    st.tuples(st.integers(1, 300), st.integers(0, 9000)), min_size=1, max_size=80
).map(lambda pairs: size_samples.sizes_of(*pairs))


def shuffled(sizes, seed=0):
    return np.random.default_rng(seed).permutation(len(sizes.nodes))


def loads(plan, values):
    return np.array([[values[part].sum() for part in parts] for parts in plan])


@given(sizes_strategy, st.integers(1, 5))
def test_every_graph_of_a_batch_goes_to_one_device_and_counts_are_even(sizes, num_devices):
    indices = np.arange(len(sizes.nodes))
    parts = planning.split_over_devices(indices, sizes, num_devices)
    assert len(parts) == num_devices
    assert sorted(np.concatenate(parts).tolist()) == indices.tolist()
    assert max(map(len, parts)) <= -(-len(indices) // num_devices)


def test_devices_get_equal_work():
    edges = np.array([100, 1, 1, 98, 50, 52])
    parts = planning.split_over_devices(np.arange(6), GraphSizes(edges, edges), 2)
    assert sorted(int(edges[part].sum()) for part in parts) == [151, 151]


def test_devices_get_equal_numbers_of_atoms_and_of_edges():
    sizes = size_samples.bimodal(8)
    parts = planning.split_over_devices(np.arange(8), sizes, 2)
    assert [int(sizes.nodes[part].sum()) for part in parts] == [220, 220]
    assert [int(sizes.edges[part].sum()) for part in parts] == [4400, 4400]


@given(sizes_strategy, st.integers(1, 12), st.integers(1, 4), st.integers(1, 9), st.integers(0, 99))
def test_an_epoch_has_every_graph_of_its_full_batches_once(sizes, batch_size, devices, window, s):
    order = shuffled(sizes, s)
    options = {"batch_size": batch_size, "num_devices": devices, "window": window}
    plan = plan_epoch(order, sizes, **options)
    assert len(plan) == len(order) // batch_size
    used = np.concatenate([part for parts in plan for part in parts] or [np.array([], int)])
    assert sorted(used.tolist()) == sorted(order[: len(plan) * batch_size].tolist())
    for parts in plan:
        assert len(parts) == devices
        assert sum(map(len, parts)) == batch_size
        assert max(map(len, parts)) <= -(-batch_size // devices)
        if batch_size % devices == 0:
            assert {len(part) for part in parts} == {batch_size // devices}
    again = plan_epoch(order, sizes, **options)
    assert [[part.tolist() for part in parts] for parts in again] == [
        [part.tolist() for part in parts] for parts in plan
    ]


@pytest.mark.parametrize("devices", [1, 2, 3])
def test_a_window_of_one_is_the_plain_shuffle(devices):
    sizes = size_samples.slabs(50)
    order = shuffled(sizes)
    plan = plan_epoch(order, sizes, batch_size=6, num_devices=devices)
    for step, parts in enumerate(plan):
        batch = order[6 * step : 6 * step + 6]
        assert sorted(np.concatenate(parts).tolist()) == sorted(batch.tolist())
        if devices == 1:
            assert parts[0].tolist() == batch.tolist()


def test_a_window_deals_only_its_own_graphs():
    sizes = size_samples.slabs(100)
    order = shuffled(sizes)
    plan = plan_epoch(order, sizes, batch_size=5, num_devices=1, window=8)
    # 20 batches in three windows of nearly equal length: 6, 7 and 7 batches.
    for start, stop in ((0, 6), (6, 13), (13, 20)):
        window = np.concatenate([parts[0] for parts in plan[start:stop]])
        assert sorted(window.tolist()) == sorted(order[5 * start : 5 * stop].tolist())


@pytest.mark.parametrize(("devices", "batch_size"), [(1, 16), (2, 32), (8, 128), (3, 32)])
def test_a_window_evens_out_atoms_and_edges(devices, batch_size):
    sizes = size_samples.slabs(64 * batch_size)
    options = {"batch_size": batch_size, "num_devices": devices}
    plain = plan_epoch(shuffled(sizes), sizes, **options)
    dealt = plan_epoch(shuffled(sizes), sizes, **options, window=64)
    for values in (sizes.nodes, sizes.edges):
        even, uneven = loads(dealt, values), loads(plain, values)
        assert even.max() < 1.12 * even.mean()
        assert even.std() < 0.7 * uneven.std()


def test_the_place_of_a_batch_in_its_window_says_nothing_about_its_size():
    # One graph is so large that its batch is always the largest; each place is as likely for it.
    sizes = size_samples.one_giant(32)
    plans = [
        plan_epoch(shuffled(sizes, seed), sizes, batch_size=4, num_devices=1, window=8)
        for seed in range(400)
    ]
    places = [int(np.argmax(loads(plan, sizes.edges))) for plan in plans]
    counts = np.bincount(places, minlength=8)
    assert counts.min() > 25  # 50 expected, standard deviation 6.6
    assert counts.max() < 80


def test_a_hundred_thousand_graphs_are_planned_fast():
    sizes = size_samples.molecules(110_000)
    start = time.process_time()
    plan_epoch(shuffled(sizes), sizes, batch_size=128, num_devices=8, window=64)
    assert time.process_time() - start < 2


@given(sizes_strategy, st.integers(1, 12), st.integers(1, 4))
def test_an_evaluation_has_every_graph_once(sizes, batch_size, devices):
    plan = plan_evaluation(sizes, batch_size, devices)
    count = len(sizes.nodes)
    assert len(plan) == -(-count // batch_size)
    assert sorted(i for parts in plan for part in parts for i in part.tolist()) == list(
        range(count)
    )
    for parts in plan:
        assert len(parts) == devices
        assert sum(map(len, parts)) <= batch_size
        assert max(map(len, parts)) <= -(-batch_size // devices)


@pytest.mark.parametrize("sort", [False, True])
def test_evaluation_batches_are_even_whatever_the_order_of_the_data(sort):
    sizes = size_samples.slabs(3000)
    if sort:
        order = np.argsort(sizes.nodes)
        sizes = GraphSizes(sizes.nodes[order], sizes.edges[order])
    plan = plan_evaluation(sizes, 16, 2)
    for values in (sizes.nodes, sizes.edges):
        even = loads(plan, values)
        assert even.max() < 1.1 * even.mean()


@pytest.mark.parametrize("name", ["batch_size", "num_devices", "window"])
def test_arguments_must_be_positive(name):
    options = {"batch_size": 2, "num_devices": 1, "window": 1} | {name: 0}
    with pytest.raises(ValueError, match=f"{name}: expected at least 1, got 0"):
        plan_epoch(np.arange(4), size_samples.all_equal(4), **options)


def test_a_window_over_the_whole_set_makes_other_batches_in_every_epoch():
    sizes = GraphSizes(np.arange(40, 60), 10 * np.arange(40, 60))

    def batches(seed):
        order = np.random.default_rng(seed).permutation(20)
        plan = plan_epoch(order, sizes, batch_size=4, num_devices=1, window=8)
        return {frozenset(batch[0].tolist()) for batch in plan}

    assert batches(0) == batches(0)
    assert len(batches(0) & batches(1)) < 2

from __future__ import annotations

import itertools

import jax
import numpy as np
import pytest

from equiformer_jax.data import batching
from equiformer_jax.data.graph_building import build_graph_store
from equiformer_jax.data.pipeline import (
    EvaluationBatches,
    HostDevices,
    TrainingBatches,
    steps_per_epoch,
)
from tests.data.small_structures import CUTOFF, molecules
from tests.data.test_graph_store import assert_same_trees

BATCH = 4


@pytest.fixture(scope="module")
def store():
    return build_graph_store(molecules(22), CUTOFF)


def stream(store, num_devices=1, host=0, hosts=1, **settings):
    budgets = batching.choose_budgets(store.sizes, BATCH, num_devices, settings.get("window", 1))
    devices = HostDevices(num_devices, host, hosts)
    return TrainingBatches(
        store, budgets, **{"batch_size": BATCH, "devices": devices, "seed": 1, **settings}
    )


def order_of(batches):
    return [sorted(np.concatenate(batch.indices).tolist()) for batch in batches]


def assert_same_batches(found, expected):
    for ours, theirs in zip(found, expected, strict=True):
        assert_same_trees(ours.graph, theirs.graph)
        assert ours.fill == theirs.fill
        for indices, others in zip(ours.indices, theirs.indices, strict=True):
            np.testing.assert_array_equal(indices, others)


@pytest.mark.parametrize("window", [1, 3])
def test_an_epoch_visits_no_structure_twice_and_drops_the_rest(store, window):
    batches = order_of(stream(store, window=window).epoch(0))
    visited = list(itertools.chain(*batches))
    assert [len(batch) for batch in batches] == [BATCH] * 5
    assert len(set(visited)) == 20


def test_order_is_a_function_of_seed_and_epoch_alone(store):
    batches = stream(store)
    third = order_of(batches.epoch(3))
    assert third == order_of(stream(store).epoch(3))
    assert third != order_of(batches.epoch(4))
    assert third != order_of(stream(store, seed=2).epoch(3))


def test_the_plain_shuffle_is_the_order(store):
    order = np.random.default_rng([1, 0]).permutation(22)
    expected = [sorted(order[start : start + BATCH].tolist()) for start in range(0, 20, BATCH)]
    assert order_of(stream(store).epoch(0)) == expected


def test_devices_do_not_change_what_a_step_sees(store):
    assert order_of(stream(store).epoch(0)) == order_of(stream(store, num_devices=3).epoch(0))


def test_batches_are_the_graphs_of_their_indices(store):
    for batch in stream(store, num_devices=2).epoch(0):
        n_edge, n_node = (batch.graph.senders.shape[1], batch.graph.nodes["forces"].shape[1])
        budget = batching.Budget(n_edge, n_node, batch.graph.n_node.shape[1])
        parts = [[store[i] for i in part] for part in batch.indices]
        packed = [batching.pack(part, budget, store[0]) for part in parts]
        assert_same_trees(batch.graph, batching.stack_for_devices(packed))
        assert batch.fill == batching.batch_fill(batch.indices, store.sizes, budget)


def test_a_stream_taken_up_at_a_saved_position_goes_on_as_if_nothing_had_happened(store):
    settings = {"num_devices": 2, "window": 3}
    uninterrupted = list(stream(store, **settings).epoch(1)) + list(
        stream(store, **settings).epoch(2)
    )
    with stream(store, **settings).epoch(1) as batches:
        before = [next(batches) for _ in range(3)]
        saved = tuple(batches.position)
    assert saved == (1, 3)
    again = stream(store, **settings)
    after = list(again.epoch(*saved)) + list(again.epoch(saved[0] + 1))
    assert_same_batches(before + after, uninterrupted)


def test_the_parts_of_all_hosts_are_the_whole(store):
    whole = list(stream(store, num_devices=4).epoch(2))
    hosts = [list(stream(store, 4, host, 2).epoch(2)) for host in range(2)]
    assert [len(batches) for batches in hosts] == [5, 5]
    for batch, first, second in zip(whole, *hosts, strict=True):
        joined = jax.tree.map(lambda *leaves: np.concatenate(leaves), first.graph, second.graph)
        assert_same_trees(joined, batch.graph)
        for indices, others in zip(batch.indices, first.indices + second.indices, strict=True):
            np.testing.assert_array_equal(indices, others)


def test_batches_of_one_budget_have_one_shape(store):
    budgets = batching.choose_budgets(store.sizes, BATCH, 2)[-1:]
    batches = TrainingBatches(
        store, budgets, batch_size=BATCH, devices=HostDevices(2), seed=0
    ).epoch(0)
    assert len({tuple(leaf.shape for leaf in jax.tree.leaves(b.graph)) for b in batches}) == 1


@pytest.mark.parametrize("num_devices", [1, 3])
@pytest.mark.parametrize("batch_size", [4, 5, 30])
def test_evaluation_covers_every_structure_exactly_once(store, num_devices, batch_size):
    devices = HostDevices(num_devices)
    batches = EvaluationBatches(store, batch_size=batch_size, devices=devices)
    seen = []
    for batch in batches:
        assert batch.graph.n_node.shape == (num_devices, batches.budget.n_graph)
        for device, indices in enumerate(batch.indices):
            seen += indices.tolist()
            # The force label of this data set is the index of the structure.
            forces = batch.graph.nodes["forces"][device]
            expected = np.repeat(indices, store.sizes.nodes[indices])
            np.testing.assert_array_equal(forces[: len(expected), 0], expected)
    assert sorted(seen) == list(range(22))


def test_hosts_evaluate_their_own_parts(store):
    hosts = [EvaluationBatches(store, batch_size=8, devices=HostDevices(4, h, 2)) for h in (0, 1)]
    assert len({batches.budget for batches in hosts}) == 1
    seen = [index for batches in hosts for batch in order_of(batches) for index in batch]
    assert sorted(seen) == list(range(22))


def test_the_devices_of_a_host_need_not_be_next_to_each_other():
    parts = [np.array([device]) for device in range(4)]
    hosts = [HostDevices(4, 0, 2, (0, 2)), HostDevices(4, 1, 2, (1, 3))]
    assert [np.concatenate(host.own(parts)).tolist() for host in hosts] == [[0, 2], [1, 3]]


def test_splits_can_share_a_shape(store):
    devices = HostDevices(1)
    large = EvaluationBatches(store, batch_size=8, devices=devices)
    small = EvaluationBatches(store, batch_size=4, devices=devices).padded_to(large.budget)
    assert small[0].graph.senders.shape == large[0].graph.senders.shape


def test_too_few_structures_for_a_batch_are_an_error(store):
    assert steps_per_epoch(23, 8) == 2
    with pytest.raises(ValueError, match="22 training structures do not fill one batch of 23"):
        stream(store, batch_size=23)


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ((3, 0, 2), "num_devices: expected a multiple of the 2 hosts, got 3"),
        ((4, 2, 2), "host_index: expected 0 to 1, got 2"),
        ((0,), "num_devices"),
        ((4, 0, 2, (1, 4)), r"own_devices: expected 0 to 3, got \[4\]"),
    ],
)
def test_devices_of_hosts_must_add_up(numbers, message):
    with pytest.raises(ValueError, match=message):
        HostDevices(*numbers)

from __future__ import annotations

import jraph
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from equiformer_jax import Structure, build_graph
from equiformer_jax.data import batching
from equiformer_jax.data.batching import Budget, GraphSizes


def line_of_atoms(count, energy=0.0):
    positions = np.arange(count)[:, None] * np.array([1.0, 0, 0])
    forces = np.full((count, 3), float(count))
    return Structure(positions, np.full(count, 6), energy=energy, forces=forces)


def graphs_of(*counts):
    return [build_graph(line_of_atoms(n, energy=float(n)), cutoff=1.5) for n in counts]


sizes_strategy = st.lists(
    st.tuples(st.integers(2, 30), st.integers(1, 400)), min_size=1, max_size=40
).map(lambda pairs: GraphSizes(*map(np.array, zip(*pairs, strict=True))))


@given(sizes_strategy, st.integers(1, 5))
def test_every_graph_goes_to_one_device_and_counts_are_even(sizes, num_devices):
    indices = np.arange(len(sizes.nodes))
    parts = batching.split_over_devices(indices, sizes, num_devices)
    assert len(parts) == num_devices
    assert sorted(np.concatenate(parts).tolist()) == indices.tolist()
    assert max(map(len, parts)) <= -(-len(indices) // num_devices)


def test_devices_get_equal_work():
    edges = np.array([100, 1, 1, 98, 50, 52])
    parts = batching.split_over_devices(np.arange(6), GraphSizes(edges, edges), 2)
    assert sorted(int(edges[part].sum()) for part in parts) == [151, 151]


@given(sizes_strategy, st.integers(1, 12), st.integers(1, 3), st.integers(0, 99))
def test_no_random_batch_is_too_large_for_the_chosen_budgets(sizes, batch_size, devices, seed):
    batch_size = min(batch_size, len(sizes.nodes))
    budgets = batching.choose_budgets(sizes, batch_size, devices)
    assert budgets == sorted(budgets)
    assert 1 <= len(budgets) <= 3
    worst = np.argsort(-sizes.edges)[:batch_size]
    drawn = np.random.default_rng(seed).permutation(len(sizes.nodes))[:batch_size]
    for indices in (worst, drawn):
        parts = batching.split_over_devices(indices, sizes, devices)
        budget = batching.smallest_fitting(budgets, parts, sizes)
        for part in parts:
            nodes, edges = sizes.nodes[part].sum(), sizes.edges[part].sum()
            assert budget.holds(nodes, edges, len(part))


def test_one_budget_is_enough_for_equal_molecules():
    sizes = GraphSizes(np.full(100, 21), np.random.default_rng(0).integers(300, 312, 100))
    (budget,) = batching.choose_budgets(sizes, batch_size=8, num_devices=2)
    assert budget.n_graph == 5
    assert budget.n_node == 88  # 4 x 21 atoms, one for padding, rounded up to eights
    assert 4 * 311 - 64 < budget.n_edge <= 4 * 311 + 64


def test_uneven_molecules_get_smaller_budgets_that_are_full():
    generator = np.random.default_rng(0)
    nodes = np.clip(generator.normal(18, 3, 5000).round().astype(int), 3, 29)
    sizes = GraphSizes(nodes, nodes * 15)
    budgets = batching.choose_budgets(sizes, batch_size=128)
    order = generator.permutation(5000)
    fills = []
    for start in range(0, 4992, 128):
        parts = batching.split_over_devices(order[start : start + 128], sizes, 1)
        budget = batching.smallest_fitting(budgets, parts, sizes)
        fills.append(batching.batch_fill(parts, sizes, budget))
    assert len(budgets) > 1
    assert np.mean(fills, axis=0).min() > 0.9


def test_packing_keeps_order_and_fills_the_budget():
    graphs = graphs_of(2, 4, 3)
    batch = batching.pack(graphs, Budget(n_edge=20, n_node=12, n_graph=5), graphs[0])
    assert batch.n_node.tolist() == [2, 4, 3, 3, 0]
    assert batch.globals["energy"].tolist() == [2, 4, 3, 0, 0]
    assert batch.senders.shape == batch.receivers.shape == (20,)
    assert jraph.get_graph_padding_mask(batch).tolist() == [True, True, True, False, False]
    assert int(jraph.get_node_padding_mask(batch).sum()) == 9


def test_a_device_without_graphs_gets_padding_alone():
    (graph,) = graphs_of(3)
    budget = Budget(n_edge=8, n_node=6, n_graph=3)
    empty, full = batching.pack([], budget, graph), batching.pack([graph], budget, graph)
    stacked = batching.stack_for_devices([empty, full])
    assert stacked.nodes["positions"].shape == (2, 6, 3)
    assert stacked.senders.shape == (2, 8)
    assert not jraph.get_graph_padding_mask(empty).any()
    assert not jraph.get_node_padding_mask(empty).any()


def test_an_oversize_graph_is_named_with_the_budget_it_needs():
    sizes = GraphSizes.of(graphs_of(2, 40, 3))
    with pytest.raises(ValueError, match=r"graph 1 with 40 atoms and 78 edges.* 48 nodes and 128"):
        batching.check_budget(sizes, Budget(n_edge=64, n_node=24, n_graph=4))
    batching.check_budget(sizes, Budget(n_edge=78, n_node=41, n_graph=2))


def test_a_batch_that_fits_no_budget_is_named():
    sizes = GraphSizes.of(graphs_of(2, 4))
    with pytest.raises(
        ValueError, match=r"graphs \[\[0, 1\]\] needs 7 nodes, 8 edges and 3 graphs"
    ):
        batching.smallest_fitting([Budget(4, 8, 3)], [np.array([0, 1])], sizes)


def test_budgets_of_two_splits_unite():
    assert Budget(10, 8, 2).union(Budget(6, 9, 3)) == Budget(10, 9, 3)

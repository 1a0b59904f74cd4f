from __future__ import annotations

import jraph
import numpy as np

from equiformer_jax import Structure, build_graph
from equiformer_jax.data import batching
from equiformer_jax.data.batching import Budget, GraphSizes


def line_of_atoms(count, energy=0.0):
    positions = np.arange(count)[:, None] * np.array([1.0, 0, 0])
    forces = np.full((count, 3), float(count))
    return Structure(positions, np.full(count, 6), energy=energy, forces=forces)


def graphs_of(*counts):
    return [build_graph(line_of_atoms(n, energy=float(n)), cutoff=1.5) for n in counts]


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


def test_planned_batches_can_be_packed_into_the_budgets_chosen_for_them():
    graphs = graphs_of(*np.random.default_rng(0).integers(2, 12, 40))
    sizes = GraphSizes.of(graphs)
    budgets = batching.choose_budgets(sizes, 8, 2, 3)
    order = np.random.default_rng(1).permutation(40)
    seen = []
    for parts in batching.plan_epoch(order, sizes, batch_size=8, num_devices=2, window=3):
        budget = batching.smallest_fitting(budgets, parts, sizes)
        packed = [batching.pack([graphs[i] for i in part], budget, graphs[0]) for part in parts]
        stacked = batching.stack_for_devices(packed)
        assert stacked.n_node.shape == (2, budget.n_graph)
        seen += stacked.globals["energy"][:, :4].ravel().tolist()
    assert sorted(seen) == sorted(sizes.nodes.tolist())

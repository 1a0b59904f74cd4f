"""Batches of predictions: everybody is in one, few shapes, bounded."""

from __future__ import annotations

import numpy as np
import pytest

from equiformer_jax.data.planning import GraphSizes
from equiformer_jax.inference.batch_plan import GROWTH, plan_batches, rounded_up


def molecule_sizes(count, seed=0):
    nodes = np.random.default_rng(seed).integers(3, 30, count)
    return GraphSizes(nodes, nodes * (nodes - 1))


@pytest.mark.parametrize("count", [1, 2, 40, 1000])
@pytest.mark.parametrize("max_edges", [900, 4000, 10**6])
def test_every_graph_is_in_one_batch_that_holds_it(count, max_edges):
    sizes = molecule_sizes(count)
    plan = plan_batches(sizes, max_edges)
    assert sorted(np.concatenate([batch.indices for batch in plan])) == list(range(count))
    for indices, shape in plan:
        assert shape.holds(sizes.nodes[indices].sum(), sizes.edges[indices].sum(), len(indices))
        assert shape.n_edge <= max_edges


def test_batches_of_many_graphs_share_one_shape_and_are_full():
    sizes = molecule_sizes(1000)
    plan = plan_batches(sizes, 8192)
    assert len({shape for _, shape in plan}) == 1
    slots = len(plan) * plan[0].shape.n_edge
    assert sizes.edges.sum() > 0.9 * slots


def test_a_graph_beyond_the_limit_is_alone():
    sizes = GraphSizes(np.array([5, 50, 5]), np.array([20, 2450, 20]))
    plan = plan_batches(sizes, 1000)
    assert sorted(batch.indices.tolist() for batch in plan) == [[0, 2], [1]]
    shapes = {len(indices): shape for indices, shape in plan}
    assert shapes[2].n_edge < 1000 < shapes[1].n_edge


def test_atoms_count_where_there_are_few_edges():
    sizes = GraphSizes(np.full(100, 10), np.zeros(100, int))
    assert len(plan_batches(sizes, 100)) == 10


def test_nothing_makes_no_batch():
    assert plan_batches(GraphSizes(np.zeros(0, int), np.zeros(0, int)), 100) == []


def test_the_ladder_is_geometric():
    sizes = sorted({rounded_up(count, 16) for count in range(1, 100_000)})
    ratios = np.array(sizes[1:]) / sizes[:-1]
    assert ratios.max() <= GROWTH + 1 / sizes[0]
    assert sizes[0] == 16
    assert len(sizes) < 45
    assert all(rounded_up(count, 16) >= count for count in range(1, 3000))


def test_single_molecules_of_all_sizes_need_few_shapes():
    sizes = molecule_sizes(200)
    plans = [
        plan_batches(GraphSizes(sizes.nodes[k : k + 1], sizes.edges[k : k + 1]), 8192)
        for k in range(200)
    ]
    assert len(set(sizes.nodes.tolist())) == 27
    assert len({shape for ((_, shape),) in plans}) <= 16


def test_a_limit_below_one_is_refused():
    with pytest.raises(ValueError, match="max_edges"):
        plan_batches(molecule_sizes(2), 0)

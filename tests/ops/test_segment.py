from __future__ import annotations

import numpy as np

from equiformer_jax.ops.segment import (
    gather_to_edges,
    graph_index_of_nodes,
    max_to_nodes,
    mean_to_graphs,
    sum_to_graphs,
    sum_to_nodes,
)

VALUES = np.random.default_rng(0).normal(size=(6, 2, 3))
RECEIVERS = np.array([0, 0, 2, 2, 2, 3])  # nodes 1 and 4 have no edges
NODES = 5


def test_gather():
    index = np.array([3, 0, 0])
    np.testing.assert_array_equal(gather_to_edges(VALUES, index), VALUES[index])


def test_sum_over_the_edges_of_each_node():
    wanted = np.zeros((NODES, 2, 3))
    np.add.at(wanted, RECEIVERS, VALUES)
    np.testing.assert_allclose(sum_to_nodes(VALUES, RECEIVERS, NODES), wanted)


def test_maximum_is_minus_infinity_without_edges():
    wanted = np.full((NODES, 2, 3), -np.inf)
    np.maximum.at(wanted, RECEIVERS, VALUES)
    np.testing.assert_array_equal(max_to_nodes(VALUES, RECEIVERS, NODES), wanted)


def test_graphs_without_nodes_have_sum_and_mean_zero():
    graph_index = np.array([0, 0, 0, 2, 2, 3])
    rows = [VALUES[:3], np.zeros((0, 2, 3)), VALUES[3:5], VALUES[5:]]
    sums = sum_to_graphs(VALUES, graph_index, 4)
    means = mean_to_graphs(VALUES, graph_index, 4)
    for graph, row in enumerate(rows):
        np.testing.assert_allclose(sums[graph], row.sum(0), atol=1e-12)
        np.testing.assert_allclose(means[graph], row.sum(0) / max(1, len(row)), atol=1e-12)


def test_graph_of_each_node():
    sizes = np.array([2, 0, 3, 1])
    np.testing.assert_array_equal(graph_index_of_nodes(sizes, 6), [0, 0, 2, 2, 2, 3])

from __future__ import annotations

import dataclasses

import jax
import jraph
import numpy as np
import pytest

from equiformer_jax.graph import batch_graphs, build_graph, require_edges
from equiformer_jax.structure import Structure


def random_structure(seed: int, num_atoms: int, periodic: bool = False) -> Structure:
    rng = np.random.default_rng(seed)
    return Structure(
        positions=rng.uniform(0, 4, (num_atoms, 3)),
        atomic_numbers=rng.integers(1, 10, num_atoms),
        cell=np.eye(3) * 5.0 if periodic else None,
        pbc=periodic,
        energy=rng.normal(),
        forces=rng.normal(size=(num_atoms, 3)),
        tags=rng.integers(0, 3, num_atoms),
        fixed=rng.random(num_atoms) < 0.5,
    )


def test_a_molecule_without_labels():
    structure = Structure([[0.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, 0.0, 2.5]], [1, 6, 8])
    graph = build_graph(structure, cutoff=2.0)
    assert set(graph.nodes) == {"positions", "atomic_numbers"}
    assert graph.edges == {}
    assert graph.globals == {}
    np.testing.assert_array_equal(graph.receivers, [0, 1, 1, 2])
    np.testing.assert_array_equal(graph.senders, [1, 0, 2, 1])
    np.testing.assert_array_equal(graph.n_node, [3])
    np.testing.assert_array_equal(graph.n_edge, [4])


def test_everything_that_a_structure_knows_is_in_the_graph():
    rng = np.random.default_rng(0)
    structure = dataclasses.replace(
        random_structure(0, 4, periodic=True),
        stress=rng.normal(size=(3, 3)),
        relaxed_positions=rng.normal(size=(4, 3)),
        relaxed_energy=-1.5,
    )
    graph = build_graph(structure, cutoff=4.0)
    for name in ("positions", "atomic_numbers", "forces", "tags", "fixed", "relaxed_positions"):
        np.testing.assert_array_equal(graph.nodes[name], getattr(structure, name))
    for name in ("cell", "energy", "stress", "relaxed_energy"):
        np.testing.assert_array_equal(graph.globals[name], [getattr(structure, name)])
    vectors = structure.positions[graph.senders] - structure.positions[graph.receivers]
    vectors += graph.edges["shifts"] @ structure.cell
    assert np.linalg.norm(vectors, axis=1).max() <= 4.0


def test_max_neighbors_reaches_the_neighbor_list():
    graph = build_graph(random_structure(0, 6), cutoff=10.0, max_neighbors=2)
    np.testing.assert_array_equal(graph.receivers, np.repeat(np.arange(6), 2))


@pytest.mark.parametrize(("x64", "real"), [(False, np.float32), (True, np.float64)])
def test_types(x64, real):
    with jax.enable_x64(x64):
        graph = build_graph(random_structure(0, 4, periodic=True), cutoff=4.0)
        batch = batch_graphs([graph, graph])
    for each in (graph, batch):
        floats = [each.nodes["positions"], each.nodes["forces"], each.edges["shifts"]]
        floats += [each.globals["cell"], each.globals["energy"]]
        assert {array.dtype for array in floats} == {np.dtype(real)}
        integers = [each.nodes["atomic_numbers"], each.nodes["tags"], each.senders, each.receivers]
        integers += [each.n_node, each.n_edge]
        assert {array.dtype for array in integers} == {np.dtype(np.int32)}
        assert each.nodes["fixed"].dtype == bool
        assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(each))


@pytest.mark.parametrize("periodic", [False, True])
def test_batches_are_those_of_jraph(periodic):
    graphs = [
        build_graph(random_structure(seed, num_atoms, periodic), cutoff=3.0)
        for seed, num_atoms in enumerate([3, 7, 1, 5])
    ]
    batch = batch_graphs(graphs, n_node=24, n_edge=1000, n_graph=7)
    expected = jraph.pad_with_graphs(jraph.batch_np(graphs), n_node=24, n_edge=1000, n_graph=7)
    jax.tree.map(np.testing.assert_array_equal, batch, expected)
    np.testing.assert_array_equal(jraph.get_graph_padding_mask(batch), [1, 1, 1, 1, 0, 0, 0])
    np.testing.assert_array_equal(jraph.get_node_padding_mask(batch), np.arange(24) < 16)
    assert np.all(np.diff(batch.receivers) >= 0)


def test_smallest_sizes_by_default():
    graphs = [build_graph(random_structure(seed, 4), cutoff=3.0) for seed in range(3)]
    batch = batch_graphs(graphs)
    num_edges = sum(int(graph.n_edge[0]) for graph in graphs)
    np.testing.assert_array_equal(batch.n_node, [4, 4, 4, 1])
    assert len(batch.senders) == num_edges == batch.n_edge.sum()
    assert batch.n_edge[-1] == 0


def test_a_batch_of_batches():
    graphs = [build_graph(random_structure(seed, 3), cutoff=3.0) for seed in range(4)]
    inner = [jraph.batch_np(graphs[:2]), jraph.batch_np(graphs[2:])]
    jax.tree.map(np.testing.assert_array_equal, batch_graphs(inner), batch_graphs(graphs))


def test_a_single_atom_has_a_graph_and_its_batch_an_edge():
    atom = build_graph(Structure([[0.0, 0.0, 0.0]], [1]), cutoff=5.0)
    assert len(atom.senders) == 0
    batch = batch_graphs([atom])
    np.testing.assert_array_equal(batch.senders, [1])
    np.testing.assert_array_equal(batch.receivers, [1])
    np.testing.assert_array_equal(batch.n_edge, [0, 1])


def test_graphs_may_come_from_an_iterator():
    graph = build_graph(random_structure(0, 3), cutoff=3.0)
    assert len(batch_graphs(graph for _ in range(2)).n_node) == 3


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"n_node": 8}, "n_node: 8 is too small, 8 nodes and padding need at least 9"),
        ({"n_edge": 23}, "n_edge: 23 is too small, 24 edges need at least 24"),
        ({"n_graph": 2}, "n_graph: 2 is too small, 2 graphs and padding need at least 3"),
    ],
)
def test_a_size_that_is_too_small_is_named(sizes, message):
    graph = build_graph(random_structure(0, 4), cutoff=10.0)
    with pytest.raises(ValueError, match=message):
        batch_graphs([graph, graph], **sizes)


def test_different_features_are_named():
    labeled = random_structure(0, 4)
    bare = dataclasses.replace(labeled, forces=None)
    graphs = [build_graph(structure, 3.0) for structure in (labeled, labeled, bare)]
    with pytest.raises(ValueError, match=r'graph 0 has nodes\["forces"\] and graph 2 has not'):
        batch_graphs(graphs)
    with pytest.raises(ValueError, match=r'graph 1 has nodes\["forces"\] and graph 0 has not'):
        batch_graphs(graphs[::-1])
    periodic = build_graph(random_structure(0, 4, periodic=True), 3.0)
    with pytest.raises(ValueError, match=r'graph 1 has edges\["shifts"\] and graph 0 has not'):
        batch_graphs([graphs[0], periodic])


def test_no_graphs_is_an_error():
    with pytest.raises(ValueError, match="expected at least one graph, got none"):
        batch_graphs([])


def test_a_graph_without_edges_is_named():
    near = build_graph(Structure([[0.0, 0.0, 0.0], [0.0, 0.0, 1.0]], [1, 1]), cutoff=5.0)
    far = build_graph(Structure([[0.0, 0.0, 0.0], [0.0, 0.0, 9.0]], [1, 1]), cutoff=5.0)
    assert require_edges(near, "water.xyz, record 3") is near
    with pytest.raises(ValueError, match=r"water.xyz, record 3: a graph without edges.* 2 atoms"):
        require_edges(far, "water.xyz, record 3")
    with pytest.raises(ValueError, match="batch 7, graph 1: a graph without edges"):
        require_edges(jraph.batch_np([near, far]), "batch 7")

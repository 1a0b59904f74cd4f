from __future__ import annotations

import jax
import numpy as np
import pytest

from equiformer_jax import Structure, build_graph
from equiformer_jax.data.graph_building import build_graph_store
from equiformer_jax.data.graph_store import GraphStore, concatenate, flatten_graphs
from tests.data.small_structures import CUTOFF, OFFSET, molecules, slabs


def assert_same_trees(found, expected):
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for ours, theirs in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert ours.dtype == theirs.dtype
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("x64", [False, True])
@pytest.mark.parametrize("make", [molecules, slabs])
def test_a_store_gives_the_very_graphs_that_are_built(make, x64):
    with jax.enable_x64(x64):
        structures = make()
        store = build_graph_store(structures, CUTOFF, max_neighbors=9)
        assert len(store) == len(structures)
        for graph, structure in zip(store, structures, strict=True):
            assert_same_trees(graph, build_graph(structure, CUTOFF, 9))


def test_indices_are_those_of_a_sequence():
    store = build_graph_store(molecules(5), CUTOFF)
    assert_same_trees(store[-1], store[4])
    assert_same_trees(store[np.int64(2)], store[2])
    with pytest.raises(IndexError):
        store[5]


def test_sizes_are_those_of_the_graphs():
    structures = slabs()
    store = build_graph_store(structures, CUTOFF)
    assert store.sizes.nodes.tolist() == [structure.num_atoms for structure in structures]
    assert store.sizes.edges.tolist() == [len(graph.senders) for graph in store]


def test_floats_are_views_and_nothing_can_be_written():
    store = build_graph_store(molecules(4), CUTOFF)
    graph = store[2]
    assert np.shares_memory(graph.nodes["positions"], store.arrays["nodes.positions"])
    with pytest.raises(ValueError, match="read-only"):
        graph.nodes["positions"][0] = 0.0


def test_whole_numbers_take_the_smallest_type_that_holds_them():
    small = build_graph_store(slabs(), CUTOFF).arrays
    for name in ("edges.senders", "edges.receivers", "edges.shifts", "nodes.tags", "n_node"):
        assert small[name].dtype == np.int8, name
    line = Structure(np.arange(300)[:, None] * np.array([1.0, 0, 0]), np.ones(300))
    large = build_graph_store([line], 1.5)
    assert large.arrays["edges.senders"].dtype == np.int16
    assert_same_trees(large[0], build_graph(line, 1.5))


def test_types_of_parts_grow_when_they_are_joined():
    structures = [
        Structure(np.arange(count)[:, None] * np.array([1.0, 0, 0]), np.ones(count))
        for count in (3, 300, 4)
    ]
    graphs = [build_graph(structure, 1.5) for structure in structures]
    parts = [flatten_graphs([s], [g]) for s, g in zip(structures, graphs, strict=True)]
    store = GraphStore(concatenate(parts), np.float64)
    for graph, expected in zip(store, graphs, strict=True):
        assert_same_trees(graph, expected)


@pytest.mark.usefixtures("float32_mode")
def test_references_go_off_before_energies_are_rounded():
    store = build_graph_store(molecules(3), CUTOFF)
    relative = store.relative_to(OFFSET - 1.0).relative_to([1.0, 1.0, 1.0])
    energies = np.concatenate([graph.globals["energy"] for graph in relative])
    assert energies.dtype == np.float32
    np.testing.assert_allclose(energies, [0, 1e-4, 2e-4], rtol=1e-6)
    assert relative.energies().dtype == np.float64
    np.testing.assert_array_equal(store.energies(), [OFFSET, OFFSET + 1e-4, OFFSET + 2e-4])


def test_references_share_everything_else():
    store = build_graph_store(molecules(3), CUTOFF)
    assert store.relative_to(1.0).arrays is store.arrays


def test_without_energies_there_is_nothing_to_take_references_off():
    store = build_graph_store([Structure([[0.0, 0, 0], [1, 0, 0]], [1, 1])], CUTOFF)
    assert store[0].globals == {}
    with pytest.raises(ValueError, match="have no energy"):
        store.relative_to(1.0)

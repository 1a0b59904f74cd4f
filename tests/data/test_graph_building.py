from __future__ import annotations

import dataclasses

import jax
import numpy as np
import pytest

from equiformer_jax import Structure
from equiformer_jax.data import graph_building
from equiformer_jax.data.graph_building import build_graph_store
from equiformer_jax.data.structures import StructureList
from tests.data.small_structures import CUTOFF, WithBrokenRecord, molecules, slabs


def assert_same_stores(found, expected):
    assert found.arrays.keys() == expected.arrays.keys()
    assert found.real == expected.real
    for name, array in expected.arrays.items():
        assert found.arrays[name].dtype == array.dtype
        np.testing.assert_array_equal(found.arrays[name], array)


@pytest.mark.parametrize("chunk", [1, 3, 7])
def test_chunks_do_not_matter(monkeypatch, chunk):
    structures = slabs(7)
    whole = build_graph_store(structures, CUTOFF)
    monkeypatch.setattr(graph_building, "STRUCTURES_PER_CHUNK", chunk)
    assert_same_stores(build_graph_store(structures, CUTOFF), whole)


def test_processes_do_not_matter():
    """Several chunks; the float type is that of this process, whose setting the others lack."""
    structures = molecules(2 * graph_building.STRUCTURES_PER_CHUNK + 5)
    with jax.enable_x64(True):
        store = build_graph_store(structures, CUTOFF, num_workers=2)
        assert store.real == np.float64
        assert_same_stores(store, build_graph_store(structures, CUTOFF))


def test_an_error_in_a_worker_keeps_its_message():
    structures = WithBrokenRecord(molecules(4), broken=2)
    with pytest.raises(ValueError, match="broken.npz: record 2: 'F': not finite"):
        build_graph_store(structures, CUTOFF, num_workers=1)


def test_a_structure_without_neighbors_is_named():
    near, far = ([[0.0, 0, 0], [x, 0, 0]] for x in (1.0, 9.0))
    structures = StructureList([Structure(p, [1, 1]) for p in (near, far)], "water.xyz")
    with pytest.raises(ValueError, match="water.xyz: structure 1: a graph without edges"):
        build_graph_store(structures, CUTOFF)


@pytest.mark.parametrize("first", [0, 1])
def test_structures_with_different_fields_are_both_named(first):
    whole = molecules(2)
    whole[1 - first] = dataclasses.replace(whole[1 - first], forces=None)
    message = f"water: structure {first} has forces and water: structure {1 - first} has not"
    with pytest.raises(ValueError, match=message):
        build_graph_store(StructureList(whole, "water"), CUTOFF)


def test_periodic_and_open_structures_do_not_mix():
    whole = slabs(2)
    whole[1] = dataclasses.replace(whole[1], pbc=False)
    with pytest.raises(ValueError, match="structure 0 has periodic directions and"):
        build_graph_store(whole, CUTOFF)


def test_no_structures_are_an_error():
    with pytest.raises(ValueError, match="at least one structure, got none"):
        build_graph_store([], CUTOFF)


def test_long_builds_are_told_about(monkeypatch):
    monkeypatch.setattr(graph_building, "STRUCTURES_PER_CHUNK", 2)
    monkeypatch.setattr(graph_building, "_SECONDS_BETWEEN_LINES", 0.0)
    lines = []
    build_graph_store(molecules(5), CUTOFF, say=lines.append)
    assert [line.split(",")[0] for line in lines] == [
        f"graphs of {done} of 5 structures" for done in (2, 4, 5)
    ]
    monkeypatch.undo()
    build_graph_store(molecules(5), CUTOFF, say=pytest.fail)

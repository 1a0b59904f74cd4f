"""Neighbor lists with a skin: the edges of a fresh list, wherever the atoms are."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import equiformer_jax as eqf
from equiformer_jax.inference.dynamics.skin_list import (
    SkinListShape,
    complete_cell,
    empty_list,
    has_overflowed,
    images_needed,
    select_edges,
    update_if_moved,
)
from equiformer_jax.neighbors import neighbor_list

CUTOFF = 2.5


def make(structure, skin, candidates=400, pairs=300):
    cell = complete_cell(structure.cell, structure.pbc)
    images = images_needed(cell, structure.pbc, CUTOFF + skin)
    shape = SkinListShape(
        structure.num_atoms, CUTOFF, skin, structure.pbc, images, candidates, pairs
    )

    def neighbors_at(neighbors, positions, cell):
        neighbors = update_if_moved(shape, neighbors, positions, cell)
        return select_edges(shape, neighbors, positions, cell)

    return shape, neighbors_at


def found(edges):
    valid = np.asarray(edges.valid)
    rows = np.column_stack([edges.receivers, edges.senders, edges.shifts])[valid]
    return sorted(map(tuple, rows.tolist()))


def expected(structure, positions):
    edges = neighbor_list(
        eqf.Structure(positions, structure.atomic_numbers, structure.cell, structure.pbc), CUTOFF
    )
    return sorted(map(tuple, np.column_stack(edges).take([1, 0, 2, 3, 4], axis=1).tolist()))


@pytest.mark.parametrize("pbc", [False, True, (True, False, True)])
def test_edges_are_those_of_a_fresh_list_after_any_move(pbc):
    generator = np.random.default_rng(0)
    cell = np.diag([2.2, 3.0, 5.5]) + generator.uniform(-0.4, 0.4, (3, 3))
    structure = eqf.Structure(generator.random((6, 3)) @ cell, [6] * 6, cell=cell, pbc=pbc)
    shape, neighbors_at = make(structure, skin=0.6)
    neighbors_at = jax.jit(neighbors_at)
    neighbors, updates = empty_list(shape, jnp.float64), []
    positions = np.array(structure.positions)
    lattice = jnp.asarray(complete_cell(structure.cell, structure.pbc))
    for size in (0.0, 0.02, 0.05, 0.5, 3.0):
        positions = positions + size * generator.normal(size=(6, 3))
        edges, neighbors = neighbors_at(neighbors, jnp.asarray(positions), lattice)
        assert found(edges) == expected(structure, positions)
        assert not has_overflowed(shape, neighbors)
        updates.append(int(neighbors.updates))
        vectors = positions[edges.senders] - positions[edges.receivers] + edges.shifts @ lattice
        off = np.abs(vectors - edges.vectors)[np.asarray(edges.valid)]
        assert off.max(initial=0) < 1e-12
    assert updates == [1, 1, 1, 2, 3]


def test_without_skin_every_move_makes_a_new_list():
    structure = eqf.Structure(np.eye(3), [6] * 3)
    shape, neighbors_at = make(structure, skin=0.0)
    neighbors_at = jax.jit(neighbors_at)
    neighbors = empty_list(shape, jnp.float64)
    for step, updates in ((0.0, 1), (0.0, 1), (1e-3, 2)):
        positions = structure.positions + step
        edges, neighbors = neighbors_at(neighbors, positions, jnp.eye(3))
        assert int(neighbors.updates) == updates
    assert len(found(edges)) == 6


def test_the_second_half_of_the_edges_is_the_first_reversed_and_they_can_be_sorted():
    structure = eqf.Structure(np.random.default_rng(0).random((5, 3)) * 3, [6] * 5)
    shape, neighbors_at = make(structure, skin=0.5)
    edges, _ = jax.jit(neighbors_at)(
        empty_list(shape, jnp.float64), structure.positions, jnp.eye(3)
    )
    half = shape.num_pairs
    assert np.array_equal(edges.senders[:half], edges.receivers[half:])
    assert np.array_equal(edges.vectors[:half], -edges.vectors[half:])
    ordered = edges.sorted_by_receiver()
    assert (np.diff(ordered.receivers) >= 0).all()
    assert found(ordered) == found(edges)


@pytest.mark.parametrize(("candidates", "pairs"), [(8, 300), (400, 8)])
def test_an_overflow_is_noticed_and_remembered(candidates, pairs):
    structure = eqf.Structure(np.random.default_rng(0).random((8, 3)), [6] * 8)
    shape, neighbors_at = make(structure, 0.5, candidates, pairs)
    neighbors_at = jax.jit(neighbors_at)
    neighbors = empty_list(shape, jnp.float64)
    _, neighbors = neighbors_at(neighbors, structure.positions, jnp.eye(3))
    assert has_overflowed(shape, neighbors)
    _, neighbors = neighbors_at(neighbors, 100 * structure.positions, jnp.eye(3))
    assert has_overflowed(shape, neighbors)
    assert int(neighbors.most_candidates) == 28


def test_images_cover_the_reach_in_skewed_cells():
    cell = np.array([[4.0, 0, 0], [3.9, 1.0, 0], [0, 0, 20.0]])
    assert images_needed(cell, (True, True, True), 2.5) == (3, 3, 0)
    assert images_needed(cell, (True, False, True), 2.5) == (3, 0, 0)


def test_flat_cells_of_open_directions_are_completed():
    flat = np.array([[3.0, 0, 0], [0, 4.0, 0], [0, 0, 0]])
    completed = complete_cell(flat, (True, True, False))
    assert np.array_equal(completed[:2], flat[:2])
    assert np.abs(completed[2]) == pytest.approx([0, 0, 1])
    assert np.array_equal(complete_cell(None, (False, False, False)), np.eye(3))


def test_a_list_goes_through_a_scan():
    structure = eqf.Structure(np.eye(4, 3), [6] * 4)
    shape, neighbors_at = make(structure, skin=0.4)

    def step(carry, _):
        neighbors, positions = carry
        edges, neighbors = neighbors_at(neighbors, positions, jnp.eye(3))
        return (neighbors, positions * 1.08), jnp.sum(edges.valid)

    start = (empty_list(shape, jnp.float64), jnp.asarray(structure.positions))
    (neighbors, _), counts = jax.lax.scan(step, start, length=12)
    assert 1 < int(neighbors.updates) < 12
    assert counts[0] == 12 and counts[-1] < 12

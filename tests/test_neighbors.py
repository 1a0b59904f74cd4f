from __future__ import annotations

import itertools

import ase.build
import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from equiformer_jax.neighbors import NeighborList, neighbor_list
from equiformer_jax.structure import Structure, structure_from_ase
from tests.paths import GOLDEN, needs_golden


def rows(edges: NeighborList) -> list[tuple[int, ...]]:
    """(receiver, sender, shift) of every edge, in the order of the list."""
    columns = (edges.receivers, edges.senders, *edges.shifts.T)
    return [tuple(row) for row in np.stack(columns, axis=1).tolist()]


def brute_force(structure: Structure, cutoff: float) -> list[tuple[int, ...]]:
    """The same from all pairs of atoms over more images than can matter."""
    images = [range(1)] * 3
    if structure.is_periodic:
        # Open directions need a lattice vector for the search of images only.
        cell = np.where(np.array(structure.pbc)[:, None], structure.cell, 0.0)
        spread = np.linalg.norm(np.ptp(structure.positions, axis=0)) + cutoff
        nearest_plane = np.linalg.svd(cell[np.array(structure.pbc)])[1].min()
        reach = int(np.ceil(spread / nearest_plane))
        images = [range(-reach, reach + 1) if repeats else range(1) for repeats in structure.pbc]
    found = []
    for shift in itertools.product(*images):
        vectors = structure.positions[None, :] - structure.positions[:, None]
        if structure.is_periodic:
            vectors = vectors + np.array(shift) @ structure.cell
        squared = (vectors**2).sum(axis=-1)
        if structure.is_periodic:
            kept = (squared > 1e-4) & (squared <= cutoff**2)
        else:
            kept = (squared < cutoff**2) & ~np.eye(len(squared), dtype=bool)
        found += [(int(i), int(j), *shift) for i, j in zip(*np.nonzero(kept), strict=True)]
    return sorted(found)


@st.composite
def structures(draw) -> Structure:
    """Few atoms, in and outside of cells that may be smaller than the cutoff and skewed."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    num_atoms = draw(st.integers(1, 7))
    pbc = draw(st.tuples(st.booleans(), st.booleans(), st.booleans()))
    size = draw(st.sampled_from([2.0, 4.0, 9.0]))
    skew = draw(st.sampled_from([0.0, 0.3]))
    cell = np.diag(rng.uniform(0.8, 1.2, 3)) * size + rng.uniform(-skew, skew, (3, 3)) * size
    if draw(st.booleans()):
        cell[~np.array(pbc)] = 0.0
    spread = draw(st.sampled_from([1.0, 2.5])) * size
    positions = rng.uniform(-spread / 2, spread / 2, (num_atoms, 3))
    return Structure(positions, [6] * num_atoms, cell, pbc)


@hypothesis.given(structures(), st.sampled_from([1.5, 3.0, 5.0]))
@hypothesis.settings(max_examples=60)
def test_same_edges_as_brute_force(structure, cutoff):
    edges = neighbor_list(structure, cutoff)
    assert rows(edges) == brute_force(structure, cutoff)
    assert edges.senders.dtype == edges.receivers.dtype == edges.shifts.dtype == np.int32


@hypothesis.given(structures(), st.integers(1, 8))
def test_the_nearest_neighbors_are_kept(structure, max_neighbors):
    every = neighbor_list(structure, 4.0)
    kept = rows(neighbor_list(structure, 4.0, max_neighbors))
    assert kept == sorted(kept)
    vectors = structure.positions[every.senders] - structure.positions[every.receivers]
    vectors += every.shifts @ structure.cell
    length = dict(zip(rows(every), np.linalg.norm(vectors, axis=1), strict=True))
    for receiver in range(structure.num_atoms):
        lengths = sorted(length[row] for row in length if row[0] == receiver)
        kept_lengths = sorted(length[row] for row in kept if row[0] == receiver)
        np.testing.assert_allclose(kept_lengths, lengths[:max_neighbors], atol=1e-7)


def test_open_cutoff_is_strict_and_periodic_is_not():
    positions = [[0.0, 0.0, 0.0], [3.0, 4.0, 0.0]]
    assert not rows(neighbor_list(Structure(positions, [1, 1]), 5.0))
    periodic = Structure(positions, [1, 1], cell=np.eye(3) * 20.0, pbc=True)
    assert rows(neighbor_list(periodic, 5.0)) == [(0, 1, 0, 0, 0), (1, 0, 0, 0, 0)]


def test_atoms_at_one_place_are_neighbors_only_in_open_systems():
    positions = np.zeros((2, 3))
    assert rows(neighbor_list(Structure(positions, [1, 1]), 5.0)) == [(0, 1, 0, 0, 0)] + [
        (1, 0, 0, 0, 0)
    ]
    periodic = Structure(positions, [1, 1], cell=np.eye(3) * 20.0, pbc=True)
    assert not rows(neighbor_list(periodic, 5.0))


def test_a_single_atom():
    assert not rows(neighbor_list(Structure(np.zeros((1, 3)), [1]), 5.0))
    lattice = Structure(np.zeros((1, 3)), [1], cell=np.eye(3) * 2.0, pbc=True)
    edges = neighbor_list(lattice, 2.0)
    assert len(edges.senders) == 6
    assert not edges.senders.any()


@pytest.mark.parametrize("max_neighbors", [1, 3, 4])
@pytest.mark.parametrize("offset", [0.0, 0.1, 1 / 3, 17.7])
def test_ties_go_to_the_lower_shift_wherever_the_atom_lies(max_neighbors, offset):
    lattice = Structure(np.full((1, 3), offset), [1], cell=np.eye(3) * 2.1, pbc=True)
    every = rows(neighbor_list(lattice, 2.2))
    assert rows(neighbor_list(lattice, 2.2, max_neighbors)) == every[:max_neighbors]


def test_ties_go_to_the_lower_sender():
    corners = np.array(list(itertools.product([-1.0, 1.0], repeat=3)))
    structure = Structure(np.vstack([corners, np.zeros(3)]) + 0.3, [1] * 9)
    edges = neighbor_list(structure, 1.9, max_neighbors=3)
    np.testing.assert_array_equal(edges.senders[edges.receivers == 8], [0, 1, 2])


@pytest.mark.parametrize("cell", [np.zeros((3, 3)), np.diag([3.0, 3.0, 0.0]), np.ones((3, 3))])
def test_a_degenerate_cell_of_an_open_system_does_not_matter(cell):
    molecule = structure_from_ase(ase.build.molecule("C6H6"))  # flat
    with_cell = Structure(molecule.positions, molecule.atomic_numbers, cell)
    assert rows(neighbor_list(with_cell, 5.0)) == rows(neighbor_list(molecule, 5.0))


def test_many_atoms():
    rng = np.random.default_rng(1)
    positions = rng.uniform(0, 30, (2100, 3))
    structure = Structure(positions, [6] * 2100, cell=np.eye(3) * 30.0, pbc=True)
    edges = neighbor_list(structure, 3.0)
    vectors = positions[None] - positions[:, None]
    vectors -= 30.0 * np.round(vectors / 30.0)
    squared = (vectors**2).sum(axis=-1)
    receivers, senders = np.nonzero((squared <= 9.0) & (squared > 1e-4))
    np.testing.assert_array_equal(edges.receivers, receivers)
    np.testing.assert_array_equal(edges.senders, senders)


@pytest.mark.parametrize("cutoff", [0.0, -1.0, np.nan, np.inf])
def test_a_bad_cutoff_is_named(cutoff):
    with pytest.raises(ValueError, match="cutoff: expected a positive length"):
        neighbor_list(Structure(np.zeros((1, 3)), [1]), cutoff)


def test_a_bad_number_of_neighbors_is_named():
    with pytest.raises(ValueError, match="max_neighbors: expected at least 1 or None, got 0"):
        neighbor_list(Structure(np.zeros((1, 3)), [1]), 5.0, 0)


def fixture_structures(fixture: np.lib.npyio.NpzFile, pbc: bool) -> list[Structure]:
    graph_of_atom = fixture["in/batch"]
    return [
        Structure(
            fixture["in/pos"][graph_of_atom == index],
            np.ones(np.sum(graph_of_atom == index)),
            cell=fixture["in/cell"][index] if pbc else None,
            pbc=pbc,
        )
        for index in range(graph_of_atom.max() + 1)
    ]


def rows_of_all(structures: list[Structure], max_neighbors: int | None) -> list[tuple[int, ...]]:
    found, first = [], 0
    for structure in structures:
        edges = neighbor_list(structure, 5.0, max_neighbors)
        found += [(r + first, s + first, *shift) for r, s, *shift in rows(edges)]
        first += structure.num_atoms
    return found


@needs_golden
def test_periodic_edges_of_the_fixture():
    fixture = np.load(GOLDEN / "model" / "oc20_l1_nonlinear_aux_pbc.npz")
    senders, receivers = fixture["in/edge_index"]
    shifts = fixture["in/cell_offsets"].astype(int)
    expected = np.column_stack([receivers, senders, shifts]).tolist()
    found = rows_of_all(fixture_structures(fixture, pbc=True), max_neighbors=500)
    assert found == sorted(map(tuple, expected))


@needs_golden
@pytest.mark.parametrize("name", ["md17_l2_nonlinear_exp", "qm9_l2_nonlinear", "oc20_l1_nonlinear"])
def test_open_edges_of_the_fixtures(name):
    fixture = np.load(GOLDEN / "model" / f"{name}.npz")
    senders, receivers = fixture["in/edge_index"]
    found = rows_of_all(fixture_structures(fixture, pbc=False), max_neighbors=None)
    assert [row[:2] for row in found] == sorted(zip(receivers, senders, strict=True))

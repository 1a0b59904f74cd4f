"""The shortest image of a vector, in cells of any shape, against a search through many images."""

from __future__ import annotations

import itertools

import ase.geometry
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from equiformer_jax.data.minimum_image import (
    minimum_image_displacement,
    relaxation_displacements,
)
from equiformer_jax.structure import Structure

EVERYWHERE = (True, True, True)
PERIODICITIES = list(itertools.product((False, True), repeat=3))

numbers = st.floats(-1, 1, width=32)
vectors_of_fractions = arrays(np.float64, (6, 3), elements=numbers)


def shortest_lengths(vectors, cell, pbc):
    """[N] by trying every image that can be shorter than the vectors are.

    An image v + n · cell that is shorter than v has |n · cell| < 2 |v|, and n_i times the distance
    of the faces i is at most that.
    """
    to_fractions = np.linalg.inv(cell)
    vectors = vectors - np.round(vectors @ to_fractions) * pbc @ cell
    twice = 2 * np.linalg.norm(vectors, axis=1).max()
    reach = np.ceil(twice * np.linalg.norm(to_fractions, axis=0)).astype(int) * pbc
    images = np.array(list(itertools.product(*(range(-n, n + 1) for n in reach)))) @ cell
    return np.linalg.norm(vectors[:, None] + images, axis=2).min(axis=1)


def sheared(cell, steps):
    """Another cell of the same lattice: multiples of vectors added to others."""
    cell = np.array(cell)
    for row, other, times in steps:
        if row != other:
            cell[row] += times * cell[other]
    return cell


steps = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2), st.integers(-4, 4)), max_size=5)


@settings(max_examples=150, deadline=None)
@given(arrays(np.float64, (3, 3), elements=numbers), vectors_of_fractions, steps)
def test_no_image_is_shorter_in_any_cell(cell, fractions, steps):
    lengths = np.linalg.norm(cell, axis=1)
    assume(lengths.min() > 0.2 and abs(np.linalg.det(cell)) > 0.2 * lengths.prod())
    vectors = 3 * fractions @ cell
    expected = shortest_lengths(vectors, cell, np.array(EVERYWHERE))
    # The same lattice described by a skewed cell.
    skewed = sheared(cell, steps)
    result = minimum_image_displacement(vectors, skewed, EVERYWHERE)
    np.testing.assert_allclose(np.linalg.norm(result, axis=1), expected, rtol=0, atol=1e-6)
    images = (result - vectors) @ np.linalg.inv(cell)
    np.testing.assert_allclose(images, np.round(images), rtol=0, atol=1e-6)


@pytest.mark.parametrize("pbc", PERIODICITIES)
def test_only_periodic_directions_repeat(pbc):
    generator = np.random.default_rng(PERIODICITIES.index(pbc))
    for _ in range(20):
        cell = np.diag([3.0, 4.0, 5.0]) + generator.uniform(-1.5, 1.5, (3, 3))
        periodic = np.array(pbc)
        vectors = generator.uniform(-1.5, 1.5, (20, 3)) @ cell
        result = minimum_image_displacement(vectors, cell, pbc)
        # To search, directions that do not repeat may as well be perpendicular to the others.
        closed = ase.geometry.complete_cell(cell * periodic[:, None])
        expected = shortest_lengths(vectors, closed, periodic)
        np.testing.assert_allclose(np.linalg.norm(result, axis=1), expected, rtol=0, atol=1e-12)
        images = (result - vectors) @ np.linalg.inv(cell)
        np.testing.assert_allclose(images, np.round(images), rtol=0, atol=1e-12)
        np.testing.assert_allclose(images[:, ~periodic], 0, atol=1e-12)


def test_a_skewed_cell_where_rounding_is_not_enough():
    """Rounding leaves this vector alone, and so does ASE's own rule for when rounding is enough."""
    cell = np.array([[10.0, 0, 0], [9, 2, 0], [0, 0, 30]])
    vector = np.array([[3.0, 0, 0]])
    np.testing.assert_allclose(ase.geometry.find_mic(vector, cell)[0], vector)
    result = minimum_image_displacement(vector, cell, EVERYWHERE)
    np.testing.assert_allclose(result, [[2, 2, 0]], atol=1e-12)


def test_directions_that_do_not_repeat_need_no_lattice_vector():
    vectors = np.array([[2.6, -2.6, 40.0]])
    for third in ([0, 0, 0], [1, 1, 1e-9]):
        cell = np.array([[4.0, 0, 0], [0, 4, 0], third])
        result = minimum_image_displacement(vectors, cell, (True, True, False))
        np.testing.assert_allclose(result, [[-1.4, 1.4, 40.0]], atol=1e-12)
    molecule = minimum_image_displacement(vectors, None, (False, False, False))
    np.testing.assert_array_equal(molecule, vectors)


def test_the_arguments_are_left_alone_and_may_be_empty():
    vectors = np.full((2, 3), 9.0)
    for pbc in (EVERYWHERE, (False, False, False)):
        result = minimum_image_displacement(vectors, np.eye(3), pbc)
        assert not np.shares_memory(result, vectors) and np.all(vectors == 9)
        assert minimum_image_displacement(np.zeros((0, 3)), np.eye(3), pbc).shape == (0, 3)


def test_relaxation_displacements_cross_the_cell():
    cell = np.array([[5.0, 0, 0], [2, 5, 0], [0, 0, 20]])
    start = np.array([[0.1, 0.1, 3.0], [4.0, 4.0, 5.0]])
    moved = np.array([[-0.4, 0.2, 0.1], [0, 0, 0]])
    structure = Structure(
        positions=start,
        atomic_numbers=[8, 29],
        cell=cell,
        pbc=EVERYWHERE,
        relaxed_positions=start + moved + cell[0],
    )
    np.testing.assert_allclose(relaxation_displacements(structure), moved, atol=1e-12)
    with pytest.raises(ValueError, match="relaxed_positions: needed"):
        relaxation_displacements(Structure(positions=start, atomic_numbers=[8, 29]))


BAD = {
    "shape of vectors": (np.zeros((2, 2)), np.eye(3), EVERYWHERE, r"vectors: expected shape \[N"),
    "one vector": (np.zeros(3), np.eye(3), EVERYWHERE, r"vectors: expected shape \[N, 3\]"),
    "nan": (np.full((1, 3), np.nan), np.eye(3), EVERYWHERE, "vectors: not finite"),
    "shape of the cell": (np.zeros((1, 3)), np.eye(2), EVERYWHERE, r"cell: expected shape \[3, 3"),
    "no cell": (np.zeros((1, 3)), None, EVERYWHERE, "cell: needed"),
    "flat cell": (np.zeros((1, 3)), np.ones((3, 3)), EVERYWHERE, "cell: its periodic vectors"),
    "periodicity": (np.zeros((1, 3)), np.eye(3), (True,), "pbc: expected three booleans"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_arguments_are_named(name):
    *arguments, message = BAD[name]
    with pytest.raises(ValueError, match=message):
        minimum_image_displacement(*arguments)

from __future__ import annotations

import itertools

import jax
import numpy as np
import pytest

from equiformer_jax.ops.frames import wigner_matrices
from equiformer_jax.ops.wigner import aligned_coefficient, degree_raising, wigner_3j
from tests.ops.symmetry import random_rotation

wigner = jax.jit(wigner_matrices, static_argnums=1)

TRIPLES = [
    triple
    for triple in itertools.product(range(4), repeat=3)
    if abs(triple[0] - triple[1]) <= triple[2] <= triple[0] + triple[1]
]


def test_zero_outside_the_triangle():
    assert wigner_3j(1, 1, 3).shape == (3, 3, 7)
    assert not wigner_3j(1, 1, 3).any()


def test_known_tensors():
    levi_civita = np.zeros((3, 3, 3))
    for i, j, k in itertools.permutations(range(3)):
        levi_civita[i, j, k] = (i - j) * (j - k) * (k - i) / 2
    np.testing.assert_allclose(wigner_3j(1, 1, 1), levi_civita / 6**0.5, atol=1e-15)
    for degree in range(4):
        delta = np.eye(2 * degree + 1) / (2 * degree + 1) ** 0.5
        np.testing.assert_allclose(wigner_3j(degree, 0, degree)[:, 0], delta, atol=1e-15)
        np.testing.assert_allclose(wigner_3j(degree, degree, 0)[:, :, 0], delta, atol=1e-15)


def test_rotations_leave_the_tensors_unchanged():
    matrices = [np.ones((1, 1))]
    matrices += [np.asarray(x[0]) for x in wigner(random_rotation()[None], 3)]
    for triple in TRIPLES:
        tensor = wigner_3j(*triple)
        assert np.linalg.norm(tensor) == pytest.approx(1)
        turned = np.einsum("ai,bj,ck,ijk->abc", *(matrices[degree] for degree in triple), tensor)
        np.testing.assert_allclose(turned, tensor, atol=1e-13)


@pytest.mark.parametrize("triple", TRIPLES, ids=str)
def test_along_the_polar_axis_only_an_order_and_its_mirror_couple(triple):
    l1, l2, l3 = triple
    harmonics = np.zeros(2 * l2 + 1)
    harmonics[l2] = (2 * l2 + 1) ** 0.5
    matrix = (2 * l3 + 1) ** 0.5 * np.einsum("ijk,j->ki", wigner_3j(*triple), harmonics)

    wanted, is_even = np.zeros_like(matrix), sum(triple) % 2 == 0
    for m in range(min(l1, l3) + 1):
        coefficient = aligned_coefficient(*triple, m)
        wanted[l3 + m, l1 + (m if is_even else -m)] = coefficient
        wanted[l3 - m, l1 + (-m if is_even else m)] = coefficient if is_even else -coefficient
    if not is_even:
        assert aligned_coefficient(*triple, 0) == pytest.approx(0, abs=1e-15)
    np.testing.assert_allclose(matrix, wanted, atol=1e-14)


@pytest.mark.parametrize("degree", [2, 3, 4])
def test_raising_the_degree_is_an_isometry(degree):
    rows = degree_raising(degree).reshape(2 * degree + 1, -1)
    np.testing.assert_allclose(rows @ rows.T, np.eye(2 * degree + 1), atol=1e-14)

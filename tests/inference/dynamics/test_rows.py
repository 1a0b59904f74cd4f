from __future__ import annotations

import e3nn_jax as e3nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from equiformer_jax.inference.dynamics import rows as rows_module
from equiformer_jax.inference.dynamics.rows import (
    rotate_back,
    rotate_rows,
    rows_at_edges,
    sum_rows,
    sum_rows_to_nodes,
    torque,
    turn_generators,
    write_rows,
)
from equiformer_jax.ops.frames import aligning_rotation, wigner_matrices

IRREPS = e3nn.Irreps("3x0e+2x1e+1x2e")


def turned(angles):
    """Wigner matrices of small turns about the first and the third axis, `[2l+1, 2l+1, 1]`."""
    x, z = angles
    vector = jnp.array([[0, -z, 0], [z, 0, -x], [0, x, 0]])
    rotation = jax.scipy.linalg.expm(vector)[None]
    return [jnp.moveaxis(matrix, 0, -1) for matrix in wigner_matrices(rotation, 3)]


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("degree", [1, 2, 3])
def test_generators_are_the_derivatives_of_wigner_matrices(axis, degree):
    step = 1e-5
    ends = [np.asarray(turned(sign * step * np.eye(2)[axis])[degree - 1]) for sign in (1, -1)]
    slope = (ends[0] - ends[1])[..., 0] / (2 * step)
    generator = np.zeros_like(slope)
    for i, j, value in turn_generators(degree)[axis]:
        generator[i, j], generator[j, i] = value, -value
    assert np.abs(slope - generator).max() < 1e-9


def test_torques_are_the_derivatives_by_a_turn():
    generator = np.random.default_rng(0)
    left, right = (jnp.asarray(generator.normal(size=(IRREPS.dim, 1))) for _ in range(2))
    plain = [jnp.eye(d)[..., None] for d in (3, 5)]
    as_segments = [rotate_rows(IRREPS, x, plain) for x in (left, right)]

    def product(angles):
        moved = rotate_rows(IRREPS, right, turned(angles))
        return sum(jnp.sum(a * b) for a, b in zip(as_segments[0], moved, strict=True))

    step = 1e-5
    for axis, found in enumerate(torque(*as_segments, IRREPS)[:, 0]):
        move = step * np.eye(2)[axis]
        slope = (product(move) - product(-move)) / (2 * step)
        assert abs(found - slope) < 1e-6


def test_rotating_in_and_back_changes_nothing():
    generator = np.random.default_rng(0)
    directions = generator.normal(size=(4, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    matrices = wigner_matrices(aligning_rotation(jnp.asarray(directions)), 2)
    matrices = [jnp.moveaxis(matrix, 0, -1) for matrix in matrices]
    rows = jnp.asarray(generator.normal(size=(IRREPS.dim, 4)))
    back = rotate_back(IRREPS, rotate_rows(IRREPS, rows, matrices), matrices)
    assert np.abs(back - rows).max() < 1e-12
    some = [(None,), (rows[:2], None, None), (None,) * 5]
    full = [(jnp.zeros((3, 4)),), (rows[:2], *[jnp.zeros((2, 4))] * 2), (jnp.zeros((1, 4)),) * 5]
    difference = rotate_back(IRREPS, some, matrices) - rotate_back(IRREPS, full, matrices)
    assert np.abs(difference).max() < 1e-12


@pytest.mark.parametrize("most_nodes", [0, 64])
def test_edges_read_and_sum_nodes_by_products_and_by_gathering(monkeypatch, most_nodes):
    monkeypatch.setattr(rows_module, "MOST_NODES_FOR_PRODUCTS", most_nodes)
    generator = np.random.default_rng(0)
    nodes, others = generator.normal(size=(2, 3, 5))
    index, other = np.array([0, 2, 2, 1]), np.array([1, 1, 0, 2])
    found = rows_at_edges((jnp.asarray(nodes), index), (jnp.asarray(others), other))
    assert np.abs(found - (nodes[index] + others[other]).T).max() < 1e-12
    summed = sum_rows_to_nodes(found, jnp.asarray(index), 3)
    wanted = np.zeros((3, 5))
    np.add.at(wanted, index, np.asarray(found).T)
    assert np.abs(summed - wanted).max() < 1e-12


@pytest.mark.parametrize("count", [1, 2, 7, 12, 64])
def test_sums_and_stacks_of_rows(count):
    rows = jnp.asarray(np.random.default_rng(0).normal(size=(count, 3)))
    assert np.abs(sum_rows(rows) - rows.sum(axis=0)).max() < 1e-12
    assert np.array_equal(write_rows([rows, rows[:1]]), np.concatenate([rows, rows[:1]]))

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from equiformer_jax.ops.geometry import edge_geometry, edge_vectors


def test_vectors_point_from_receiver_to_sender():
    positions = np.array([[0.0, 0, 0], [1, 2, 3]])
    vectors = edge_vectors(positions, np.array([1, 0]), np.array([0, 1]))
    np.testing.assert_array_equal(vectors, [[1, 2, 3], [-1, -2, -3]])


def test_shifts_count_lattice_vectors():
    positions = np.array([[0.0, 0, 0], [1, 2, 3]])
    cell = np.array([[10.0, 0, 0], [1, 11, 0], [2, 3, 12]])
    vectors = edge_vectors(
        positions,
        senders=np.array([1, 0]),
        receivers=np.array([0, 0]),
        shifts=np.array([[0, 0, 0], [1, -1, 2]]),
        cells=np.stack([cell, cell]),
    )
    np.testing.assert_array_equal(vectors, [[1, 2, 3], cell[0] - cell[1] + 2 * cell[2]])


def test_distance_and_direction():
    geometry = edge_geometry(jnp.array([[3.0, 0, 4.0], [0, -2.0, 0]]))
    np.testing.assert_allclose(geometry.distance, [5, 2])
    np.testing.assert_allclose(geometry.direction, [[0.6, 0, 0.8], [0, -1, 0]])
    assert geometry.valid.all()


def test_a_zero_vector_is_not_valid_and_gets_the_polar_axis():
    geometry = edge_geometry(jnp.zeros((1, 3)))
    assert not geometry.valid[0]
    np.testing.assert_array_equal(geometry.direction, [[0, 1, 0]])
    np.testing.assert_array_equal(geometry.distance, [1])


@pytest.mark.parametrize("length", [0.0, 1e-30, 1e-6, 1e-3], ids=str)
def test_no_derivative_is_nan_at_or_near_zero(length):
    vector = jnp.array([length, 0.0, 0.0])

    @jax.jit
    def both(vector):
        return jax.jacfwd(outputs)(vector), jax.hessian(outputs)(vector)

    def outputs(vector):
        geometry = edge_geometry(vector[None])
        return jnp.append(geometry.direction[0], geometry.distance)

    first, second = both(vector)
    assert np.isfinite(first).all()
    assert np.isfinite(second).all()
    if length < 1e-4:
        np.testing.assert_array_equal(first, 0)

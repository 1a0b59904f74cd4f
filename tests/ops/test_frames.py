from __future__ import annotations

import e3nn_jax as e3nn
import jax
import jax.numpy as jnp
import numpy as np

from equiformer_jax.ops.frames import aligned_harmonics, aligning_rotation, wigner_matrices
from tests.ops.symmetry import random_rotation

LMAX = 4
POLES = np.array([[0.0, 1.0, 0.0], [0.0, -1.0, 0.0]])
# Where one chart ends and the other begins.
BOUNDARY = np.array([[1.0, 0, 0], [0, 0, 1], [-1, 0, 0], [0.6, 0, -0.8], [0.6, 1e-13, 0.8]])


def random_directions(count: int = 50) -> np.ndarray:
    vectors = np.random.default_rng(0).normal(size=(count, 3))
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


DIRECTIONS = np.concatenate([POLES, BOUNDARY, random_directions()])
rotations = jax.jit(aligning_rotation)
wigner = jax.jit(wigner_matrices, static_argnums=1)


def harmonics(vectors: jax.Array, lmax: int) -> jax.Array:
    """Harmonics `[E, (lmax + 1)^2 - 1]` of edge vectors of any length, through their frames."""
    directions = vectors / jnp.linalg.norm(vectors, axis=-1, keepdims=True)
    matrices = wigner_matrices(aligning_rotation(directions), lmax)
    return jnp.concatenate(aligned_harmonics(matrices), axis=-1)


def test_frames_are_rotations_that_take_the_edge_to_y():
    matrices = np.asarray(rotations(DIRECTIONS))
    identity = np.tile(np.eye(3), (len(matrices), 1, 1))
    np.testing.assert_allclose(matrices @ matrices.transpose(0, 2, 1), identity, atol=1e-14)
    np.testing.assert_allclose(np.linalg.det(matrices), 1, atol=1e-14)
    turned = np.einsum("eij,ej->ei", matrices, DIRECTIONS)
    np.testing.assert_allclose(turned, np.tile(POLES[0], (len(turned), 1)), atol=1e-14)


def test_frames_at_the_poles():
    up, down = rotations(POLES)
    np.testing.assert_array_equal(up, np.eye(3))
    np.testing.assert_array_equal(down, np.diag([1.0, -1.0, -1.0]))


def test_wigner_matrices_are_a_representation():
    left, right = (random_rotation(seed)[None] for seed in (1, 2))
    products = wigner(left @ right, LMAX)
    for of_product, x, y in zip(products, wigner(left, LMAX), wigner(right, LMAX), strict=True):
        np.testing.assert_allclose(of_product, x @ y, atol=1e-13)
        np.testing.assert_allclose(x @ x.swapaxes(1, 2), np.eye(x.shape[1])[None], atol=1e-13)


def test_degree_one_is_the_rotation_itself():
    rotation = random_rotation()[None]
    np.testing.assert_array_equal(wigner_matrices(rotation, 1)[0], rotation)
    assert wigner_matrices(rotation, 0) == ()


def library_harmonics(vectors: jax.Array, lmax: int) -> jax.Array:
    irreps = e3nn.Irreps([(1, (degree, 1)) for degree in range(1, lmax + 1)])
    return e3nn.spherical_harmonics(irreps, vectors, True, "component").array


def test_harmonics_are_those_of_the_library():
    through_frames, wanted = jax.jit(
        lambda vectors: (harmonics(vectors, LMAX), library_harmonics(vectors, LMAX))
    )(DIRECTIONS)
    np.testing.assert_allclose(through_frames, wanted, atol=1e-13)


def test_derivative_through_the_frame_is_a_difference_quotient():
    """Also where the chart changes between the two ends of the difference."""
    vectors = DIRECTIONS * np.linspace(0.8, 4, len(DIRECTIONS))[:, None]
    change, step = np.random.default_rng(1).normal(size=vectors.shape), 1e-5

    @jax.jit
    def tangent_and_ends(vectors):
        def function(x):
            return harmonics(x, LMAX)

        tangent = jax.jvp(function, (vectors,), (change,))[1]
        return tangent, function(vectors - step * change), function(vectors + step * change)

    tangent, before, after = tangent_and_ends(vectors)
    np.testing.assert_allclose(tangent, (after - before) / (2 * step), atol=1e-7)


def test_second_derivatives_are_those_of_the_library():
    @jax.jit
    def both(vectors):
        def hessian(function):
            return jax.vmap(jax.hessian(lambda vector: function(vector[None], 3)[0]))(vectors)

        return hessian(harmonics), hessian(library_harmonics)

    ours, wanted = both(DIRECTIONS)
    np.testing.assert_allclose(ours, wanted, atol=1e-10)

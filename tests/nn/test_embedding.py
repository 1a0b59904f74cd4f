from __future__ import annotations

import dataclasses

import e3nn_jax as e3nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from equiformer_jax.nn.embedding import EdgeDegreeEmbedding, ForceEmbedding
from equiformer_jax.nn.linear import NodeEmbedding
from equiformer_jax.ops.frames import aligned_harmonics, aligning_rotation, wigner_matrices
from tests.nn.small_graph import small_context
from tests.ops.symmetry import assert_features_close, random_rotation, transform

NODE = "4x0e+3x1e+2x2e"


def test_rows_outside_the_table_are_not_numbers():
    """An element that the model does not know must never pass for one that it knows."""
    module, rows = NodeEmbedding(3, "2x0e"), np.array([0, 2, 3, -1])
    vectors, _ = module.init_with_output(jax.random.key(0), rows)
    np.testing.assert_array_equal(np.isnan(vectors[:, 0]).all(axis=-1), [False, False, True, True])


def test_atoms_without_neighbors_get_zeros():
    context = small_context()
    edges = dataclasses.replace(context.edges, valid=np.asarray(context.edges.receivers) != 2)
    module = EdgeDegreeEmbedding("4x0e+3x1e", "1x0e+1x1e", (6,), 3.0)
    initialize = jax.jit(module.init_with_output)
    features, _ = initialize(jax.random.key(0), context._replace(edges=edges))
    for x in features:
        np.testing.assert_array_equal(x[2], 0)
        assert np.abs(x[np.arange(7) != 2]).min() > 0


def test_average_degree_divides_by_its_root():
    context = small_context()
    module, twice = (
        EdgeDegreeEmbedding("4x0e+3x1e", "1x0e+1x1e", (6,), degree) for degree in (3.0, 12.0)
    )
    variables = jax.jit(module.init)(jax.random.key(0), context)
    once, halves = (jax.jit(m.apply)(variables, context) for m in (module, twice))
    assert_features_close(halves, tuple(x / 2 for x in once))


@jax.jit
def harmonics(directions):
    return aligned_harmonics(wigner_matrices(aligning_rotation(directions), 2))


@pytest.fixture(scope="module")
def force_embedding():
    """The embedding with random parameters, and with a bias."""
    module = ForceEmbedding("1x0e+1x1e+1x2e", NODE)
    variables = module.init(jax.random.key(0), np.ones((1, 3)))
    variables["params"]["linear"]["bias"] += 0.7
    return jax.jit(lambda forces: module.apply(variables, forces)), variables


def test_forces_are_embedded_as_harmonics_times_length(force_embedding):
    embed, variables = force_embedding
    forces, kernels = np.random.default_rng(0).normal(size=(5, 3)), variables["params"]["linear"]
    length = np.linalg.norm(forces, axis=-1)[:, None]
    rows = [np.ones((5, 1)), *harmonics(forces / length)]
    wanted = [(y * length / 3**0.5)[:, :, None] * kernels[f"{y.shape[1] // 2}e"] for y in rows]
    assert_features_close(embed(forces), (wanted[0] + 0.7, *wanted[1:]))


def test_without_a_force_the_bias_is_left(force_embedding):
    scalars, *others = force_embedding[0](np.zeros((2, 3)))
    np.testing.assert_allclose(scalars, 0.7)
    assert not any(np.any(x) for x in others)


def test_force_embedding_is_equivariant(force_embedding):
    embed, forces, rotation = force_embedding[0], np.eye(3), random_rotation()
    assert_features_close(
        embed(forces @ rotation.T), transform(embed(forces), e3nn.Irreps(NODE), rotation)
    )


def test_derivatives_at_zero_force_are_finite(force_embedding):
    embed = force_embedding[1]
    module = ForceEmbedding("1x0e+1x1e+1x2e", NODE)

    def total(forces):
        return sum(jnp.sum(jnp.sin(x)) for x in module.apply(embed, forces))

    for derivative in (jax.grad, jax.hessian):
        assert np.isfinite(jax.jit(derivative(total))(np.zeros((1, 3)))).all()

from __future__ import annotations

from typing import Any, NamedTuple

import e3nn_jax as e3nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from equiformer_jax.ops.activations import gate, gate_factors
from equiformer_jax.ops.frames import aligning_rotation, wigner_matrices
from equiformer_jax.ops.geometry import edge_geometry
from equiformer_jax.ops.irreps import gate_input, multiplicity
from equiformer_jax.ops.paths import depthwise_paths
from equiformer_jax.ops.tensor_product import (
    align,
    depthwise_linear,
    gate_orders,
    mirror,
    rotate,
    select_segments,
    shared_depthwise_linear,
    unalign,
)
from tests.ops.dense_tensor_product import dense_linear, dense_product
from tests.ops.symmetry import assert_features_close, random_features, random_rotation, transform

# Both poles, the boundary of the two charts (y = 0) from both sides, and ordinary directions.
DIRECTIONS = np.array(
    [
        [0.0, 1.0, 0.0],
        [0.0, -1.0, 0.0],
        [1.0, 0.0, 0.0],
        [0.0, 0.0, -1.0],
        [0.6, 0.0, 0.8],
        [0.6, -1e-12, 0.8],
        [0.3, 0.8, -0.5],
        [-0.7, -0.6, 0.2],
    ]
)
CHANNELS = 3


class Case(NamedTuple):
    """Irreps of features and harmonics, and those that the product shall have."""

    source: str
    sh: str
    wanted: str


SE3 = {
    1: Case("3x0e+2x1e", "1x0e+1x1e", "0e+1e"),
    2: Case("3x0e+2x1e+2x2e", "1x0e+1x1e+1x2e", "0e+1e+2e"),
    3: Case("2x0e+2x1e+1x2e+1x3e", "1x0e+1x1e+1x2e+1x3e", "0e+1e+2e+3e"),
}
E3 = {
    1: Case("2x0e+2x0o+2x1e+1x1o", "1x0e+1x1o", "0e+0o+1e+1o"),
    2: Case("2x0e+1x0o+1x1e+2x1o+1x2e", "1x0e+1x1o+1x2e", "0e+0o+1e+1o+2e+2o"),
    3: Case("1x0e+2x1o+1x2e+1x3o", "1x0e+1x1o+1x2e+1x3o", "0e+1o+2e+3o"),
}
UNEVEN = {
    "higher outputs than inputs": Case("3x0e+2x1e", "1x0e+1x1e+1x2e", "0e+1e+2e"),
    "lower outputs than inputs": Case("2x0e+2x1e+2x2e", "1x0e+1x1e+1x2e", "0e+1e"),
}
CASES = [
    *[pytest.param(case, False, id=f"SE(3) lmax {lmax}") for lmax, case in SE3.items()],
    *[pytest.param(case, False, id=f"E(3) lmax {lmax}") for lmax, case in E3.items()],
    *[pytest.param(case, False, id=name) for name, case in UNEVEN.items()],
    pytest.param(E3[2], True, id="E(3) lmax 2, shared weights"),
    *[pytest.param(case, True, id=f"{name}, shared weights") for name, case in UNEVEN.items()],
]


def matrices_of(vectors: jax.Array) -> tuple[jax.Array, ...]:
    return wigner_matrices(aligning_rotation(edge_geometry(vectors).direction), 3)


frames = jax.jit(matrices_of)


def random_arguments(case: Case, shared: bool, seed: int = 0) -> dict[str, Any]:
    """Features, weights and kernels in the official order, and edge vectors of several lengths."""
    rng, edges = np.random.default_rng(seed), len(DIRECTIONS)
    paths = depthwise_paths(*case)
    weights = (paths.weight_numel,) if shared else (edges, paths.weight_numel)
    unit = DIRECTIONS / np.linalg.norm(DIRECTIONS, axis=-1, keepdims=True)
    return {
        "features": random_features(case.source, edges, seed),
        "weights": rng.normal(size=weights),
        "kernels": {str(ir): rng.normal(size=(mul, CHANNELS)) for mul, ir in paths.irreps_out},
        "vectors": unit * rng.uniform(0.8, 3, size=(edges, 1)),
    }


def dense(case: Case, features, weights, kernels, vectors):
    return dense_linear(dense_product(features, vectors, weights, case), kernels)


def edge_aligned(case: Case, features, weights, kernels, vectors):
    paths, matrices = depthwise_paths(*case), matrices_of(vectors)
    own_kernels = [
        kernels[str(ir)][order]
        for (_, ir), order in zip(paths.irreps_out, paths.row_orders(), strict=True)
    ]
    product = depthwise_linear if weights.ndim == 2 else shared_depthwise_linear
    aligned = align(features, paths.irreps_in, matrices)
    orders = product(aligned, weights[..., paths.weight_order()], own_kernels, paths)
    return unalign(orders, paths.irreps_out, matrices)


def derivatives(function, case: Case, arguments: dict[str, Any], direction: dict[str, Any]):
    """Gradient of a nonlinear function of the values, the values, and how both change."""

    def objective(arguments):
        outputs = function(case, **arguments)
        total = sum(jnp.sum(jnp.sin(x) * jnp.arange(x.size).reshape(x.shape)) for x in outputs)
        return total, outputs

    return jax.jvp(jax.grad(objective, has_aux=True), (arguments,), (direction,))


@pytest.mark.parametrize(("case", "shared"), CASES)
def test_aligned_product_is_the_dense_one_with_two_derivatives(case, shared):
    arguments, direction = (random_arguments(case, shared, seed) for seed in (0, 1))

    @jax.jit
    def both(arguments, direction):
        return [derivatives(f, case, arguments, direction) for f in (dense, edge_aligned)]

    wanted, found = both(arguments, direction)
    assert jax.tree.structure(wanted) == jax.tree.structure(found)
    for x, y in zip(jax.tree.leaves(wanted), jax.tree.leaves(found), strict=True):
        np.testing.assert_allclose(y, x, rtol=0, atol=1e-11 * np.abs(x).max())


@pytest.mark.parametrize("invert", [False, True], ids=["rotation", "with inversion"])
def test_product_turns_with_features_and_edges(invert):
    case, rotation = E3[2], random_rotation()
    arguments = random_arguments(case, shared=False)
    turned = arguments | {
        "features": transform(arguments["features"], case.source, rotation, invert),
        "vectors": arguments["vectors"] @ rotation.T * (-1 if invert else 1),
    }
    product = jax.jit(lambda arguments: edge_aligned(case, **arguments))
    irreps = depthwise_paths(*case).irreps_out
    assert_features_close(product(turned), transform(product(arguments), irreps, rotation, invert))


@pytest.mark.parametrize("shared", [False, True], ids=["weights of each edge", "shared weights"])
def test_outputs_without_a_kernel_are_not_computed(shared):
    case = SE3[2]
    arguments, paths = random_arguments(case, shared), depthwise_paths(*case)
    matrices = frames(arguments["vectors"])
    aligned = align(arguments["features"], paths.irreps_in, matrices)
    weights = arguments["weights"]
    function = shared_depthwise_linear if shared else depthwise_linear
    product = jax.jit(lambda kernels: function(aligned, weights, kernels, paths))
    kernels = [arguments["kernels"][str(ir)] for _, ir in paths.irreps_out]
    everything, some = product(kernels), product([kernels[0], None, kernels[2]])
    assert some[1] is None
    for index in (0, 2):
        for x, y in zip(some[index], everything[index], strict=True):
            np.testing.assert_allclose(x, y, atol=1e-12)
    assert unalign(some, paths.irreps_out, matrices)[1] is None


def test_alignment_and_back():
    irreps = e3nn.Irreps(E3[2].source)
    features, matrices = random_features(str(irreps), len(DIRECTIONS)), frames(DIRECTIONS)
    aligned = align(features, irreps, matrices)
    assert [x.shape for x in aligned] == [(8, 1, 7), (8, 2, 4), (8, 2, 1)]
    # Channels of order m are those of all segments of degree at least m, one after the other.
    stops = {m: np.cumsum([mul for mul, ir in irreps if ir.l >= m]) for m in range(3)}
    orders = []
    for segment, (mul, ir) in enumerate(irreps):
        first = {m: sum(other.l >= m for _, other in irreps[:segment]) for m in range(ir.l + 1)}
        stop = {m: stops[m][first[m]] for m in first}
        orders.append([aligned[m][..., stop[m] - mul : stop[m]] for m in first])
    assert_features_close(unalign(orders, irreps, matrices), features)


def test_alignment_takes_the_edge_to_the_pole():
    vectors = DIRECTIONS / np.linalg.norm(DIRECTIONS, axis=-1, keepdims=True)
    pole = rotate((vectors[:, :, None],), e3nn.Irreps("1e"), frames(vectors))[0]
    np.testing.assert_allclose(pole[:, :, 0], np.tile([0.0, 1.0, 0.0], (8, 1)), atol=1e-15)


def test_mirror_exchanges_the_pair_and_is_a_quarter_turn():
    pair = jnp.asarray(np.random.default_rng(0).normal(size=(4, 2, 3)))
    np.testing.assert_array_equal(mirror(pair), np.stack([-pair[:, 1], pair[:, 0]], axis=1))
    np.testing.assert_array_equal(mirror(mirror(pair)), -pair)


def test_gates_act_in_the_edge_frame_as_outside():
    irreps = e3nn.Irreps("2x0e+1x0o+2x1e+2x2e")
    inputs, matrices = gate_input(irreps), frames(DIRECTIONS)
    features = random_features(str(inputs), len(DIRECTIONS))
    outside = align(gate(features, irreps), irreps, matrices)

    activated, gates = gate_factors(features[0], multiplicity(irreps, "0e"))
    turned = rotate(features, inputs, matrices)
    segments = [(activated,)]
    for x, (_, ir) in zip(turned[1:], irreps[1:], strict=True):
        pairs = [x[:, [ir.l - m, ir.l + m]] for m in range(1, ir.l + 1)]
        segments.append((x[:, ir.l : ir.l + 1], *pairs))
    assert_features_close(gate_orders(segments, irreps, gates), outside)


def test_segments_are_selected_by_irrep():
    product, irreps = [("a",), ("b",), ("c",)], e3nn.Irreps("1x0e+2x1e+3x1o")
    assert select_segments(product, irreps, e3nn.Irreps("5x1o+1x0e")) == (("c",), ("a",))
    with pytest.raises(ValueError, match="lacks 2e, 0o"):
        select_segments(product, irreps, e3nn.Irreps("2e+0o"))

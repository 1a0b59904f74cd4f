"""What the pure operations make of the official fixtures' inputs."""

from __future__ import annotations

from collections.abc import Callable

import e3nn_jax as e3nn
import jax
import jax.numpy as jnp
import numpy as np

from equiformer_jax.ops import activations
from equiformer_jax.ops.frames import aligned_harmonics, wigner_matrices
from equiformer_jax.ops.geometry import edge_geometry
from equiformer_jax.ops.heads import split_heads
from equiformer_jax.ops.irreps import gate_input, to_features, to_irreps_array
from equiformer_jax.ops.paths import DepthwisePaths, depthwise_paths
from equiformer_jax.ops.tensor_product import (
    align,
    depthwise_linear,
    shared_depthwise_linear,
    unalign,
)
from equiformer_jax.ops.wigner import wigner_3j
from tests.golden import Fixture
from tests.nn.golden_units import alignment, matrices_of

Outputs = dict[str, jax.Array]


def run_activations(fixture: Fixture) -> Outputs:
    scaled = {
        "silu": (activations.scaled_silu, activations.SILU_SCALE),
        "sigmoid": (activations.scaled_sigmoid, activations.SIGMOID_SCALE),
        "smooth_leaky_relu_0.2": (
            activations.scaled_smooth_leaky_relu,
            activations.SMOOTH_LEAKY_RELU_SCALE,
        ),
    }
    outputs = {}
    for name, (function, scale) in scaled.items():
        assert scale == fixture.arrays[f"const/{name}"]
        outputs[f"{name}_norm2mom"] = function(jnp.asarray(fixture.arrays["in/x"]))
        outputs[name] = outputs[f"{name}_norm2mom"] / scale
    return outputs


def run_wigner_3j(fixture: Fixture) -> Outputs:
    return {key: wigner_3j(*map(int, key.split("_"))) for key in fixture.group("w3j")}


def run_wigner_matrices(fixture: Fixture) -> Outputs:
    matrices = jax.jit(wigner_matrices, static_argnums=1)(fixture.arrays["in/R"][None], 4)
    # Scalars are never rotated: degree 0 has no matrix here.
    return {"D0": np.ones((1, 1))} | {f"D{d.shape[-1] // 2}": d[0] for d in matrices}


def run_spherical_harmonics(fixture: Fixture) -> Outputs:
    geometry = edge_geometry(jnp.asarray(fixture.arrays["in/vec"]))
    # Row 0 is the zero vector. It has no direction; such an edge is invalid here and sends nothing.
    np.testing.assert_array_equal(geometry.valid, np.arange(len(geometry.valid)) > 0)
    harmonics = jax.jit(aligned_harmonics)(alignment(geometry.direction[1:], 6))
    rows = np.concatenate([np.ones((len(harmonics[0]), 1)), *harmonics], axis=-1)
    return {"lmax6_component": rows, "e_l3": rows[:, :16], "o_l3": rows[:, :16]}


def run_depthwise(fixture: Fixture) -> Outputs:
    paths = _depthwise_paths(fixture)
    weights = fixture.arrays["in/weight"][:, paths.weight_order()]
    return _product(fixture, paths, depthwise_linear, weights)


def run_shared_depthwise(fixture: Fixture) -> Outputs:
    paths = _depthwise_paths(fixture)
    weight = fixture.arrays["param/tp.weight"][paths.weight_order()]
    return _product(fixture, paths, shared_depthwise_linear, weight)


def _depthwise_paths(fixture: Fixture) -> DepthwisePaths:
    node = fixture.meta["node"]
    paths = depthwise_paths(node, fixture.meta["sh"], node)
    assert paths.irreps_out == e3nn.Irreps(fixture.meta["irreps_out"]).simplify()
    return paths


def _product(
    fixture: Fixture, paths: DepthwisePaths, function: Callable, weights: np.ndarray
) -> Outputs:
    """The product, and a linear map that only puts its channels into the official order."""
    kernels = [np.eye(len(order))[order] for order in paths.row_orders()]

    @jax.jit
    def product(rows, weights, kernels, matrices):
        features = to_features(rows, paths.irreps_in)
        aligned = align(features, paths.irreps_in, matrices)
        orders = function(aligned, weights, kernels, paths)
        return to_irreps_array(unalign(orders, paths.irreps_out, matrices), paths.irreps_out).array

    return {"y": product(fixture.arrays["in/x"], weights, kernels, matrices_of(fixture))}


def run_gate(fixture: Fixture) -> Outputs:
    irreps_in, irreps = (e3nn.Irreps(fixture.meta[key]) for key in ("irreps_in", "irreps_out"))
    assert gate_input(irreps) == irreps_in

    @jax.jit
    def gate(rows):
        gated = activations.gate(to_features(rows, irreps_in), irreps)
        return to_irreps_array(gated, irreps).array

    return {"y": gate(fixture.arrays["in/x"])}


def run_heads(fixture: Fixture) -> Outputs:
    @jax.jit
    def cut_and_join(rows):
        split = [split_heads(x, fixture.meta["num_heads"]) for x in to_features(rows, irreps)]
        per_head = tuple(jnp.moveaxis(x, -2, 1) for x in split)
        back = tuple(x.reshape(*x.shape[:-2], -1) for x in split)
        return {
            "heads": to_irreps_array(per_head, fixture.meta["irreps_head"]).array,
            "back": to_irreps_array(back, irreps).array,
        }

    irreps = fixture.meta["irreps_mid"]
    return cut_and_join(fixture.arrays["in/x"])


CHECKS = {
    "activations": run_activations,
    "wigner_3j": run_wigner_3j,
    "wigner_D": run_wigner_matrices,
    "spherical_harmonics": run_spherical_harmonics,
    "dtp_external": run_depthwise,
    "dtp_internal": run_shared_depthwise,
    "gate": run_gate,
    "heads": run_heads,
}

"""The NumPy reference against the official fixtures of single layers (whole models: next file)."""

from __future__ import annotations

import pathlib
from collections.abc import Callable

import numpy as np
import pytest

from tests.paths import GOLDEN, needs_golden
from tests.reference import activations, attention, block, embedding, irreps, norms, radial, wigner
from tests.reference import tensor_products as products
from tests.reference.fixture_files import Fixture, read_fixture
from tests.reference.parameters import Scope

TOLERANCE = 1e-12
UNITS = [path for path in sorted((GOLDEN / "unit").glob("*.npz")) if path.stem != "wigner_3j"]

pytestmark = needs_golden


def parsed(fixture: Fixture, name: str) -> irreps.Irreps:
    return irreps.parse(fixture.meta[name])


def edges(fixture: Fixture) -> attention.Edges:
    arrays, irreps_sh = fixture.inputs, parsed(fixture, "sh")
    return attention.Edges(
        senders=arrays["edge_src"],
        receivers=arrays["edge_dst"],
        harmonics=arrays["edge_attr"],
        irreps=irreps_sh,
        scalars=arrays["edge_scalars"],
    )


def assert_close(actual: np.ndarray, expected: np.ndarray, tolerance: float = TOLERANCE) -> None:
    """Largest difference, relative to the largest expected entry."""
    assert actual.shape == expected.shape
    error = np.abs(actual - expected).max() / max(np.abs(expected).max(), 1e-300)
    assert error <= tolerance, f"relative error {error:.1e}"


def check_activations(fixture: Fixture) -> dict:
    x = fixture.inputs["x"]
    return {
        "silu": activations.silu(x),
        "sigmoid": activations.sigmoid(x),
        "smooth_leaky_relu_0.2": activations.smooth_leaky_relu(x),
        "silu_norm2mom": activations.scaled_silu(x),
        "sigmoid_norm2mom": activations.scaled_sigmoid(x),
        "smooth_leaky_relu_0.2_norm2mom": activations.scaled_smooth_leaky_relu(x),
    }


def check_spherical_harmonics(fixture: Fixture) -> dict:
    vectors = fixture.inputs["vec"]
    low = wigner.spherical_harmonics(vectors, 3)
    return {"lmax6_component": wigner.spherical_harmonics(vectors, 6), "e_l3": low, "o_l3": low}


def check_rotations(fixture: Fixture) -> dict:
    return {
        f"D{degree}": wigner.rotation_matrix(degree, fixture.inputs["R"]) for degree in range(5)
    }


def check_basis(fixture: Fixture, function, scope: Scope) -> dict:
    count = fixture.meta["num_basis"]
    return {"y": function(scope, fixture.inputs["d"], fixture.meta["cutoff"], count)}


def check_radial_network(fixture: Fixture) -> dict:
    _, *hidden, last = fixture.meta["ch_list"]
    return {"y": radial.radial_network(fixture.scope, fixture.inputs["x"], tuple(hidden), last)}


def check_linear(fixture: Fixture) -> dict:
    shapes = parsed(fixture, "irreps_in"), parsed(fixture, "irreps_out")
    return {"y": products.linear(fixture.scope, fixture.inputs["x"], *shapes)}


def check_depthwise(fixture: Fixture) -> dict:
    node, edge = parsed(fixture, "node"), parsed(fixture, "sh")
    weights = fixture.inputs.get("weight", fixture.parameters.get("tp.weight"))
    assert products.depthwise_irreps(node, edge, node) == parsed(fixture, "irreps_out")
    rows, harmonics = fixture.inputs["x"], fixture.inputs["edge_attr"]
    return {
        "y": products.depthwise_tensor_product(rows, harmonics, weights, node, edge, node),
    }


def check_separable(fixture: Fixture) -> dict:
    node, rows = parsed(fixture, "node"), fixture.inputs["x"]
    if fixture.meta["internal_weights"]:
        result = attention.shared_depthwise_linear(fixture.scope, rows, edges(fixture), node, node)
        return {"y": result}
    hidden = tuple(fixture.meta["fc_neurons"][1:])
    product = attention.radial_depthwise(
        fixture.scope, "dtp_rad", rows, edges(fixture), node, node, hidden
    )
    product_irreps = irreps.simplify(products.depthwise_irreps(node, parsed(fixture, "sh"), node))
    lin_out = parsed(fixture, "irreps_lin_out")
    result = products.linear(fixture.scope.child("lin"), product, product_irreps, lin_out)
    if fixture.meta["use_activation"]:
        assert activations.gate_input(node) == lin_out
        result = activations.gate(result, node)
    return {"y": result}


def check_norm(fixture: Fixture, kind: str) -> dict:
    rows, node = fixture.inputs["x"], parsed(fixture, "irreps")
    batch = fixture.inputs["batch"]
    return {"y": norms.equivariant_norm(fixture.scope, kind, rows, node, batch)}


def check_gate(fixture: Fixture) -> dict:
    target = parsed(fixture, "irreps_out")
    assert activations.gate_input(target) == parsed(fixture, "irreps_in")
    return {"y": activations.gate(fixture.inputs["x"], target)}


def check_heads(fixture: Fixture) -> dict:
    head, heads = parsed(fixture, "irreps_head"), fixture.meta["num_heads"]
    cut = attention.to_heads(fixture.inputs["x"], head, heads)
    return {"heads": cut, "back": attention.from_heads(cut, head)}


def check_feed_forward(fixture: Fixture) -> dict:
    node = parsed(fixture, "node")
    mid = parsed(fixture, "mlp")
    return {"y": block.feed_forward(fixture.scope, fixture.inputs["x"], node, mid, node)}


def check_node_embedding(fixture: Fixture) -> dict:
    count, node = fixture.meta["max_atom_type"], parsed(fixture, "node")
    return {"y": embedding.type_embedding(fixture.scope, fixture.inputs["z"], count, node)}


def check_edge_degree_embedding(fixture: Fixture) -> dict:
    hidden = tuple(fixture.meta["fc_neurons"][1:])
    result = embedding.edge_degree_embedding(
        fixture.scope,
        edges(fixture),
        len(fixture.inputs["x"]),
        parsed(fixture, "node"),
        hidden,
        fixture.meta["avg_degree"],
    )
    return {"y": result}


def attention_config(fixture: Fixture) -> attention.AttentionConfig:
    return attention.AttentionConfig(
        irreps_head=parsed(fixture, "head"),
        irreps_pre_attn=parsed(fixture, "node"),
        num_heads=fixture.meta["num_heads"],
        fc_neurons=tuple(fixture.meta["fc_neurons"][1:]),
        nonlinear_message=fixture.meta.get("nonlinear_message", False),
        rescale_degree=fixture.meta.get("rescale_degree", False),
    )


def check_attention(fixture: Fixture, function) -> dict:
    node = parsed(fixture, "node")
    config = attention_config(fixture)
    return {"y": function(fixture.scope, config, fixture.inputs["x"], edges(fixture), node, node)}


def check_block(fixture: Fixture, kind: str) -> dict:
    result = block.transformer_block(
        fixture.scope,
        kind,
        attention_config(fixture),
        "layer",
        fixture.inputs["x"],
        edges(fixture),
        fixture.inputs["batch"],
        parsed(fixture, "node"),
        parsed(fixture, "mlp"),
        parsed(fixture, "irreps_out"),
    )
    return {"y": result}


CHECKS = {
    "activations": check_activations,
    "spherical_harmonics": check_spherical_harmonics,
    "wigner_D": check_rotations,
    "gaussian_rbf": lambda f: check_basis(f, radial.gaussian_basis, f.scope),
    "expnorm_rbf": lambda f: check_basis(f, radial.exponential_basis, f.scope),
    "bessel_rbf": lambda f: check_basis(f, radial.bessel_basis, f.scope.child("rbf")),
    "radial_profile": check_radial_network,
    "linear_rs": check_linear,
    "dtp": check_depthwise,
    "sepfctp": check_separable,
    "gate": check_gate,
    "heads": check_heads,
    "ffn": check_feed_forward,
    "node_embedding": check_node_embedding,
    "edge_degree_embedding": check_edge_degree_embedding,
    "graph_attention": lambda f: check_attention(f, attention.graph_attention),
    "dp_attention": lambda f: check_attention(f, attention.dot_product_attention),
    "trans_block": lambda f: check_block(f, "mlp"),
    "dp_trans_block": lambda f: check_block(f, "dot_product"),
    **{
        f"norm_{kind}": lambda f, kind=kind: check_norm(f, kind)
        for kind in norms.LAYER_KINDS + norms.GRAPH_KINDS
    },
}


def check_for(stem: str) -> Callable[[Fixture], dict]:
    """The check for a file such as `e2_norm_layer` or `o2_graph_attention_linear`."""
    name = stem.split("_", 1)[1] if stem.startswith(("e2_", "o2_", "e3_")) else stem
    return CHECKS[max((key for key in CHECKS if name.startswith(key)), key=len)]


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.stem)
def test_unit(path: pathlib.Path) -> None:
    fixture = read_fixture(path)
    actual = check_for(path.stem)(fixture)
    assert set(actual) == set(fixture.outputs)
    for name, expected in fixture.outputs.items():
        assert_close(actual[name], expected)


def test_wigner_3j() -> None:
    with np.load(GOLDEN / "unit" / "wigner_3j.npz") as file:
        table = {name: file[name] for name in file.files if name != "meta"}
    for name, expected in table.items():
        degrees = [int(part) for part in name.removeprefix("w3j/").split("_")]
        assert_close(wigner.wigner_3j(*degrees), expected)

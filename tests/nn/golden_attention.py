"""What messages, attentions and blocks make of the official fixtures' inputs and parameters."""

from __future__ import annotations

from typing import Any

import e3nn_jax as e3nn
import jax
import numpy as np

from equiformer_jax.models import torch_layout as layout
from equiformer_jax.models.equiformer import attention_settings
from equiformer_jax.nn.attention import GraphAttention
from equiformer_jax.nn.block import TransformerBlock
from equiformer_jax.nn.radial import RadialNetwork
from equiformer_jax.ops.activations import gate
from equiformer_jax.ops.irreps import gate_input, to_features, to_irreps_array
from equiformer_jax.ops.paths import DepthwisePaths, depthwise_paths
from equiformer_jax.ops.tensor_product import (
    align,
    depthwise_linear,
    shared_depthwise_linear,
    unalign,
)
from tests.golden import Fixture
from tests.nn.golden_units import (
    apply_to_rows,
    config_of,
    context_of,
    matrices_of,
    params_from,
)

Outputs = dict[str, jax.Array]


def run_separable(fixture: Fixture) -> Outputs:
    """A depthwise product, a linear map and perhaps a gate, put together as a message does it."""
    node, arrays = e3nn.Irreps(fixture.meta["node"]), fixture.arrays
    outputs = gate_input(node) if fixture.meta["use_activation"] else node
    assert outputs == e3nn.Irreps(fixture.meta["irreps_lin_out"])
    paths = depthwise_paths(str(node), fixture.meta["sh"], str(outputs))
    product = _shared_product if fixture.meta["internal_weights"] else _radial_product
    config = config_of(fixture)

    @jax.jit
    def message(params: Any, rows, scalars, matrices) -> jax.Array:
        aligned = align(to_features(rows, node), node, matrices)
        kernels = [params["message_linear"].get(str(ir)) for _, ir in paths.irreps_out]
        orders = product(params, aligned, kernels, paths, config.fc_neurons, scalars)
        even_scalars, *others = unalign(orders, outputs, matrices)
        features = (even_scalars + params["message_linear"]["bias"], *others)
        features = gate(features, node) if fixture.meta["use_activation"] else features
        return to_irreps_array(features, node).array

    params = _separable_params(fixture, paths, outputs)
    return {"y": message(params, arrays["in/x"], arrays["in/edge_scalars"], matrices_of(fixture))}


def _shared_product(params, aligned, kernels, paths, hidden_widths, scalars):
    return shared_depthwise_linear(aligned, params["tensor_product_weight"], kernels, paths)


def _radial_product(params, aligned, kernels, paths, hidden_widths, scalars):
    network = RadialNetwork(hidden_widths, paths.weight_numel)
    weights = network.apply({"params": params["radial"]}, scalars).per_edge()
    return depthwise_linear(aligned, weights, kernels, paths)


def _separable_params(fixture: Fixture, paths: DepthwisePaths, outputs: e3nn.Irreps) -> Any:
    if not fixture.meta["internal_weights"]:
        config, node = config_of(fixture), fixture.meta["node"]
        slots = layout.single_product_slots(config, "unit", (), node, outputs)
        return params_from(fixture, slots)
    shared = fixture.arrays["param/dtp.tp.weight"][paths.weight_order()]
    own = {key: x for key, x in fixture.arrays.items() if key != "param/dtp.tp.weight"}
    slots = layout.linear_after_slots("unit.lin", ("message_linear",), paths, outputs)
    linear = params_from(Fixture(fixture.name, fixture.meta, own), slots)
    return linear | {"tensor_product_weight": np.asarray(shared)}


def run_attention(fixture: Fixture, attention: str = "mlp") -> Outputs:
    config = config_of(fixture, attention=attention)
    node = config.irreps_node_embedding
    params = params_from(fixture, layout.attention_slots(config, "unit", (), node, node))
    module = GraphAttention(attention_settings(config), node, node)
    rows, context = fixture.arrays["in/x"], context_of(fixture)
    return {"y": apply_to_rows(module, params, rows, (node, node), context)}


def run_block(fixture: Fixture, attention: str = "mlp") -> Outputs:
    config, irreps_out = config_of(fixture, attention=attention), fixture.meta["irreps_out"]
    node, mid = config.irreps_node_embedding, config.irreps_mlp_mid
    params = params_from(fixture, layout.block_slots(config, "unit", (), irreps_out))
    module = TransformerBlock(attention_settings(config), node, mid, irreps_out)
    rows, context = fixture.arrays["in/x"], context_of(fixture)
    return {"y": apply_to_rows(module, params, rows, (node, irreps_out), context)}


CHECKS = {
    "sepfctp_act": run_separable,
    "sepfctp_lin": run_separable,
    "sepfctp_internal": run_separable,
    "graph_attention_nonlinear": run_attention,
    "graph_attention_linear": run_attention,
    "graph_attention_nonlinear_rescale_degree": run_attention,
    "graph_attention_linear_rescale_degree": run_attention,
    "dp_attention": lambda fixture: run_attention(fixture, "dot_product"),
    "trans_block_same": run_block,
    "trans_block_feat": run_block,
    "trans_block_featv": run_block,
    "trans_block_linear": run_block,
    "dp_trans_block_feat": lambda fixture: run_block(fixture, "dot_product"),
}

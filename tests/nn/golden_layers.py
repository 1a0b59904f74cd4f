"""What the Flax modules make of the official fixtures' inputs and parameters."""

from __future__ import annotations

import functools

import e3nn_jax as e3nn
import jax
import numpy as np

import equiformer_jax as eqf
from equiformer_jax.models import torch_layout as layout
from equiformer_jax.nn.block import FeedForward
from equiformer_jax.nn.embedding import EdgeDegreeEmbedding
from equiformer_jax.nn.linear import EquivariantLinear, NodeEmbedding
from equiformer_jax.nn.normalization import EquivariantNorm
from equiformer_jax.nn.radial import RadialBasis, RadialNetwork
from equiformer_jax.ops.irreps import gate_input, to_features, to_irreps_array
from equiformer_jax.ops.paths import depthwise_paths
from equiformer_jax.ops.radial import exponential_centers
from tests import golden
from tests.golden import Fixture
from tests.nn.golden_units import (
    apply_to_rows,
    config_of,
    context_of,
    params_from,
)

Outputs = dict[str, jax.Array]


def run_basis(fixture: Fixture, basis_type: str) -> Outputs:
    number, cutoff = fixture.meta["num_basis"], fixture.meta["cutoff"]
    config = eqf.EquiformerConfig(basis_type=basis_type, number_of_basis=number, max_radius=cutoff)
    params = {}
    if basis_type == "exp":
        centers, beta = exponential_centers(number, cutoff)
        assert golden.relative_error(centers, fixture.arrays["param/means"]) < 1e-14
        assert golden.relative_error([beta] * number, fixture.arrays["param/betas"]) < 1e-14
    else:
        params = params_from(fixture, layout.basis_slots(config), "rbf")["radial_basis"]
    basis = jax.jit(RadialBasis(basis_type, number, cutoff).apply)
    return {"y": basis({"params": params}, fixture.arrays["in/d"])}


def run_radial_network(fixture: Fixture) -> Outputs:
    invariants, *hidden, weights = fixture.meta["ch_list"]
    config = eqf.EquiformerConfig(number_of_basis=invariants, fc_neurons=tuple(hidden))
    # A product whose weights are in the same order here and there.
    paths = depthwise_paths(f"{weights}x0e", "1x0e", "1x0e")
    params = params_from(fixture, layout.radial_slots(config, "unit", (), paths))
    network = RadialNetwork(tuple(hidden), weights)

    @jax.jit
    def weights_of_edges(params, invariants):
        return network.apply({"params": params}, invariants).per_edge()

    return {"y": weights_of_edges(params, fixture.arrays["in/x"])}


def run_linear(fixture: Fixture) -> Outputs:
    irreps = fixture.meta["irreps_in"], fixture.meta["irreps_out"]
    params = params_from(fixture, layout.linear_slots("unit", (), *irreps))
    module = EquivariantLinear(*irreps)
    return {"y": apply_to_rows(module, params, fixture.arrays["in/x"], irreps)}


def run_norm(fixture: Fixture, kind: str) -> Outputs:
    irreps, graph_index = fixture.meta["irreps"], fixture.arrays["in/batch"]
    module = EquivariantNorm(irreps, kind)
    params = {name: array.ravel() for name, array in fixture.group("param").items()}

    @functools.partial(jax.jit, static_argnums=3)
    def normalize(params, rows, graph_index, num_graphs):
        features = to_features(rows, irreps)
        normalized = module.apply({"params": params}, features, graph_index, num_graphs)
        return to_irreps_array(normalized, irreps).array

    num_graphs = int(graph_index.max()) + 1
    return {"y": normalize(params, fixture.arrays["in/x"], graph_index, num_graphs)}


def run_feed_forward(fixture: Fixture) -> Outputs:
    node, mid = fixture.meta["node"], fixture.meta["mlp"]
    gated = gate_input(e3nn.Irreps(mid))
    assert gated == e3nn.Irreps(fixture.meta["gate_in"])
    slots = [
        *layout.linear_slots("unit.fctp_1", ("linear_1",), node, gated),
        *layout.linear_slots("unit.fctp_2", ("linear_2",), mid, node),
    ]
    module, params = FeedForward(node, mid, node), params_from(fixture, slots)
    return {"y": apply_to_rows(module, params, fixture.arrays["in/x"], (node, node))}


def run_node_embedding(fixture: Fixture) -> Outputs:
    types, node = fixture.meta["max_atom_type"], fixture.meta["node"]
    params = params_from(fixture, layout.embedding_slots("unit", (), types, node))
    embed = jax.jit(NodeEmbedding(types, node).apply)
    scalars = embed({"params": params}, fixture.arrays["in/z"])[:, 0]
    # The module gives the even scalars, which come first; every other feature is zero.
    zeros = np.zeros((len(scalars), e3nn.Irreps(node).dim - scalars.shape[1]))
    return {"y": np.concatenate([scalars, zeros], axis=-1)}


def run_edge_degree_embedding(fixture: Fixture) -> Outputs:
    config = config_of(fixture)
    node = config.irreps_node_embedding
    module = EdgeDegreeEmbedding(
        node, config.irreps_sh, config.fc_neurons, fixture.meta["avg_degree"]
    )
    slots = layout.edge_degree_slots(config)
    params = params_from(fixture, slots, "edge_deg_embed")["edge_degree_embedding"]

    @jax.jit
    def embed(params, context):
        return to_irreps_array(module.apply({"params": params}, context), node).array

    return {"y": embed(params, context_of(fixture))}


CHECKS = {
    "gaussian_rbf": lambda fixture: run_basis(fixture, "gaussian"),
    "expnorm_rbf": lambda fixture: run_basis(fixture, "exp"),
    "bessel_rbf": lambda fixture: run_basis(fixture, "bessel"),
    "radial_profile": run_radial_network,
    "linear_rs": run_linear,
    "norm_layer": lambda fixture: run_norm(fixture, "layer"),
    "norm_fast_layer": lambda fixture: run_norm(fixture, "fast_layer"),
    "norm_layerV3": lambda fixture: run_norm(fixture, "layer_v3"),
    "norm_layerV4": lambda fixture: run_norm(fixture, "layer_v4"),
    "norm_instance": lambda fixture: run_norm(fixture, "instance"),
    "norm_graph": lambda fixture: run_norm(fixture, "graph"),
    "ffn": run_feed_forward,
    "node_embedding": run_node_embedding,
    "edge_degree_embedding": run_edge_degree_embedding,
}

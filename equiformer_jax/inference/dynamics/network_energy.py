"""Energy and forces of a folded network."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

import e3nn_jax as e3nn
import flax.linen as nn
import jax
import jax.numpy as jnp

from equiformer_jax.inference.dynamics.attention_forward import (
    Constants,
    EdgeArrays,
    RadialWeights,
)
from equiformer_jax.inference.dynamics.edge_attention import edge_attention
from equiformer_jax.inference.dynamics.folded_network import (
    FoldedLayer,
    FoldedNetwork,
    NetworkPlan,
)
from equiformer_jax.inference.dynamics.radial_functions import (
    RadialBases,
    network_bases,
    table_bases,
)
from equiformer_jax.inference.dynamics.rows import edges_last, turn_generators
from equiformer_jax.inference.dynamics.skin_list import Edges
from equiformer_jax.models.config import EquiformerConfig
from equiformer_jax.models.equiformer import EnergyHead
from equiformer_jax.nn.block import FeedForward
from equiformer_jax.nn.linear import EquivariantLinear
from equiformer_jax.nn.normalization import EquivariantNorm
from equiformer_jax.ops.frames import aligning_rotation, wigner_matrices
from equiformer_jax.ops.geometry import edge_geometry
from equiformer_jax.ops.irreps import (
    Features,
    alive,
    alive_segment,
    concatenate_components,
    repeat_irreps,
    split_components,
)
from equiformer_jax.ops.radial import log_smooth_envelope
from equiformer_jax.ops.segment import gather_to_edges

Parameters = Mapping[str, Any]


def energy_and_edge_gradients(
    plan: NetworkPlan, network: FoldedNetwork, edges: Edges
) -> tuple[jax.Array, jax.Array]:
    """The energy and its gradient by the vector of every edge.

    Returns:
      `[]` in network units, and `[E, 3]` in network units per Å.
    """
    config = plan.config
    precision = config.matmul_precision
    with jax.default_matmul_precision(precision) if precision else contextlib.nullcontext():
        geometry = edge_geometry(edges.vectors)
        valid = geometry.valid & edges.valid
        if config.smooth_cutoff:
            valid &= ~(geometry.distance >= config.max_radius)
        rotation = aligning_rotation(geometry.direction)
        lmax = max(m.message.lmax for m in plan.messages)
        lmax = max(lmax, e3nn.Irreps(config.irreps_sh).lmax, e3nn.Irreps(config.irreps_head).lmax)
        matrices = tuple(edges_last(matrix) for matrix in wigner_matrices(rotation, lmax))
        known = EdgeArrays(edges.senders, edges.receivers, valid, matrices)
        bases = _bases(plan, network, known, geometry.distance)

        def energy(distance: jax.Array, turn: jax.Array) -> jax.Array:
            return _energy(plan, network, known, bases, distance, turn)

        turn = jnp.zeros((2, geometry.distance.shape[0]), geometry.distance.dtype)
        value, (along, turned) = jax.value_and_grad(energy, argnums=(0, 1))(geometry.distance, turn)
    # A turn by t about the first (third) axis of the frame moves the direction by -t (+t) along the
    # third (first).
    aligned = jnp.stack(
        [turned[1] / geometry.distance, along, -turned[0] / geometry.distance], axis=-1
    )
    gradient = jnp.einsum("eij,ei->ej", rotation, aligned)
    return value, jnp.where(valid[:, None], gradient, 0)


def _bases(
    plan: NetworkPlan, network: FoldedNetwork, edges: EdgeArrays, distance: jax.Array
) -> RadialBases:
    """Of each pair; of each edge where attributes tell the edges of a pair apart."""
    attributes, networks = None, network.networks
    if not plan.config.use_atom_edge_attr:
        distance = distance[: len(distance) // 2]
        if network.table is not None:
            return table_bases(network.table, distance)
    else:
        attributes = jnp.concatenate(
            [
                gather_to_edges(networks["source"], edges.senders),
                gather_to_edges(networks["target"], edges.receivers),
            ],
            axis=-1,
        )
    return network_bases(plan.config, networks["basis"], networks["networks"], distance, attributes)


def _energy(
    plan: NetworkPlan,
    network: FoldedNetwork,
    edges: EdgeArrays,
    bases: RadialBases,
    distance: jax.Array,
    turn: jax.Array,
) -> jax.Array:
    config, num_nodes = plan.config, network.atoms.shape[0]
    log_envelope = None
    if config.smooth_cutoff:
        log_envelope = log_smooth_envelope(distance, config.max_radius)
    strength = _strength(edges.valid, log_envelope, distance.dtype)
    embedded = _with_slopes(bases.values[-1], bases.slopes[-1], distance)
    features, degree = _embed(plan, network, edges, embedded, strength, turn)
    for index, layer in enumerate(network.layers):
        radial = RadialWeights(bases.values[index], bases.slopes[index], layer.radial_kernel)
        constants = Constants(layer.message, radial, edges)
        features = _block(
            plan, index, layer, constants, features, distance, turn, log_envelope, degree
        )
    graph = jnp.zeros(num_nodes, jnp.int32)
    features = _norm(config, config.irreps_feature, network.head["norm"], features, graph)
    per_node = _apply(EnergyHead(config.irreps_feature), network.head["energy_head"], features)
    return jnp.sum(per_node) / config.avg_num_nodes**0.5


def _strength(valid: jax.Array, log_envelope: jax.Array | None, dtype: Any) -> jax.Array:
    full = 1.0 if log_envelope is None else jnp.exp(log_envelope)
    return jnp.where(valid, full, 0).astype(dtype)


def _with_slopes(values: jax.Array, slopes: jax.Array, distance: jax.Array) -> jax.Array:
    """Values of edges `[E, R]`, with these slopes as their derivatives by the distance."""
    repeats = (len(distance) // len(values), 1)
    change = (distance - jax.lax.stop_gradient(distance))[:, None]
    return jnp.tile(values, repeats) + jnp.tile(slopes, repeats) * change


def _embed(
    plan: NetworkPlan,
    network: FoldedNetwork,
    edges: EdgeArrays,
    basis: jax.Array,
    strength: jax.Array,
    turn: jax.Array,
) -> tuple[Features, jax.Array]:
    """Node features before the first block, and the number of neighbors `[N, 1, 1]`."""
    irreps = e3nn.Irreps(plan.config.irreps_node_embedding)
    num_nodes, rank = network.atoms.shape[0], basis.shape[1]
    harmonics = _harmonics(edges.matrices, e3nn.Irreps(plan.config.irreps_sh).lmax, turn)
    moments = harmonics.T[:, :, None] * (basis * strength[:, None])[:, None]
    flat = jnp.concatenate([moments.reshape(len(strength), -1), strength[:, None]], axis=1)
    summed = jax.ops.segment_sum(flat, edges.receivers, num_nodes)
    degree, moments = summed[:, -1:, None], summed[:, :-1].reshape(num_nodes, -1, rank)
    features = []
    for kernel, (mul, ir) in zip(network.embedding, irreps, strict=True):
        if kernel is None:
            features.append(jnp.zeros((num_nodes, ir.dim, mul), basis.dtype))
        else:
            features.append(moments[:, ir.l**2 : (ir.l + 1) ** 2] @ kernel)
    features[0] = features[0] + degree * network.embedding_bias + network.atoms
    return tuple(features), degree


def _harmonics(matrices: Sequence[jax.Array], lmax: int, turn: jax.Array) -> jax.Array:
    """Spherical harmonics of the edges `[(lmax + 1)^2, E]`, differentiable by their turns."""
    parts = [jnp.ones_like(turn[:1])]
    for degree in range(1, lmax + 1):
        matrix = matrices[degree - 1]
        row = matrix[degree]
        for axis, entries in enumerate(turn_generators(degree)):
            for i, j, value in entries:
                if i == degree:
                    row = row + turn[axis] * value * matrix[j]
                elif j == degree:
                    row = row - turn[axis] * value * matrix[i]
        parts.append((2 * degree + 1) ** 0.5 * row)
    return jnp.concatenate(parts)


def _block(
    plan: NetworkPlan,
    index: int,
    layer: FoldedLayer,
    constants: Constants,
    features: Features,
    distance: jax.Array,
    turn: jax.Array,
    log_envelope: jax.Array | None,
    degree: jax.Array,
) -> Features:
    config, message, nodes = plan.config, plan.messages[index], layer.nodes
    is_last = index == len(plan.messages) - 1
    irreps_in = config.irreps_node_embedding
    irreps_out = config.irreps_feature if is_last else irreps_in
    between = config.irreps_pre_attn or irreps_in
    graph = jnp.zeros(len(alive_segment(features, 0)), jnp.int32)
    attention = nodes["attention"]

    normalized = _norm(config, irreps_in, nodes["norm_1"], features, graph)
    source = _apply(EquivariantLinear(irreps_in, between), attention["source"], normalized)
    target = _apply(
        EquivariantLinear(irreps_in, between, use_bias=False), attention["target"], normalized
    )
    totals = edge_attention(
        message,
        constants,
        concatenate_components(alive(source)),
        concatenate_components(alive(target)),
        distance,
        turn,
        log_envelope,
    )
    if config.rescale_degree:
        totals = totals * degree[:, :, 0]
    values = repeat_irreps(config.irreps_head, config.num_heads)
    found = dict(
        zip(
            (str(ir) for _, ir in message.values),
            split_components(totals, message.values),
            strict=True,
        )
    )
    attended = _apply(
        EquivariantLinear(str(values), irreps_in),
        attention["projection"],
        tuple(found.get(str(ir)) for _, ir in values),
    )
    features = _add(features, attended)

    normalized = _norm(config, irreps_in, nodes["norm_2"], features, graph)
    update = _apply(
        FeedForward(irreps_in, config.irreps_mlp_mid, irreps_out), nodes["feed_forward"], normalized
    )
    if irreps_in != irreps_out:
        features = _apply(EquivariantLinear(irreps_in, irreps_out), nodes["shortcut"], features)
    return _add(features, update)


def _apply(module: nn.Module, parameters: Parameters, *inputs: Any) -> Any:
    return module.apply({"params": parameters}, *inputs)


def _norm(
    config: EquiformerConfig, irreps: str, parameters: Parameters, x: Features, graph: jax.Array
) -> Features:
    norm = EquivariantNorm(irreps, config.norm_layer)
    found: Features = _apply(norm, parameters, x, graph, 1)
    return found


def _add(left: Features, right: Features) -> Features:
    return tuple(
        None if x is None or y is None else x + y for x, y in zip(left, right, strict=True)
    )


def forces_of_edges(gradient: jax.Array, edges: Edges, num_nodes: int) -> jax.Array:
    """Forces `[N, 3]`: minus the gradient by the positions."""
    pulled = jax.ops.segment_sum(gradient, edges.senders, num_nodes)
    return jax.ops.segment_sum(gradient, edges.receivers, num_nodes) - pulled


def virial_of_edges(gradient: jax.Array, edges: Edges) -> jax.Array:
    """The derivative by a symmetric strain, `[3, 3]`."""
    product = jnp.einsum("ei,ej->ij", edges.vectors, gradient)
    return (product + product.T) / 2


def stress_of_virial(virial: jax.Array, cell: jax.Array) -> jax.Array:
    """`[3, 3]`, the virial over the volume; zero where there is none."""
    volume = jnp.abs(jnp.linalg.det(cell))
    return jnp.where(volume > 0, virial / jnp.where(volume > 0, volume, 1), 0)

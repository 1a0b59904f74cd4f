"""Whole models: energies, auxiliary displacements and denoising vectors (SPEC §5 to §9)."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from tests.reference.activations import scaled_silu
from tests.reference.attention import AttentionConfig, Edges, graph_attention
from tests.reference.block import transformer_block
from tests.reference.embedding import (
    edge_degree_embedding,
    force_embedding,
    type_embedding,
)
from tests.reference.irreps import Irreps, Segment, parse
from tests.reference.norms import equivariant_norm
from tests.reference.parameters import Scope
from tests.reference.radial import radial_basis
from tests.reference.tensor_products import linear
from tests.reference.wigner import spherical_harmonics

SCALAR = (Segment(1, 0, 1),)
QM9_TYPES = {1: 0, 6: 1, 7: 2, 8: 3, 9: 4}


@dataclasses.dataclass(frozen=True)
class Constants:
    """What is fixed by the data set: number of species, mean degree, mean number of nodes."""

    max_atom_type: int
    average_degree: float
    average_num_nodes: float


CONSTANTS = {
    "qm9": Constants(5, 15.57930850982666, 18.03065905448718),
    "md17": Constants(64, 15.57930850982666, 18.03065905448718),
    "md17_dens": Constants(64, 15.57930850982666, 18.03065905448718),
    "oc20": Constants(84, 23.395238876342773, 77.81317),
}


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """Hyper-parameters, named as in the public configuration; irreps are strings.

    `dataset` (`qm9`, `md17`, `md17_dens` or `oc20`) chooses constants, inputs and heads.
    """

    dataset: str
    irreps_node_embedding: str
    irreps_sh: str
    irreps_feature: str
    irreps_head: str
    irreps_mlp_mid: str
    irreps_pre_attn: str | None = None
    num_layers: int = 2
    num_heads: int = 4
    max_radius: float = 5.0
    number_of_basis: int = 128
    basis_type: str = "gaussian"
    fc_neurons: tuple[int, ...] = (64, 64)
    attention: str = "mlp"
    nonlinear_message: bool = True
    rescale_degree: bool = False
    norm_layer: str = "layer"
    use_atom_edge_attr: bool = False
    irreps_atom_edge_attr: str = "8x0e"
    use_attn_head: bool = False
    use_auxiliary_task: bool = False
    irreps_equivariant_inputs: str = "1x0e"

    def attention_config(self, irreps_in: str) -> AttentionConfig:
        """Of a layer that takes `irreps_in`, which is what `irreps_pre_attn` defaults to."""
        return AttentionConfig(
            irreps_head=parse(self.irreps_head),
            irreps_pre_attn=parse(self.irreps_pre_attn or irreps_in),
            num_heads=self.num_heads,
            fc_neurons=self.fc_neurons,
            nonlinear_message=self.nonlinear_message,
            rescale_degree=self.rescale_degree,
        )


@dataclasses.dataclass(frozen=True)
class Inputs:
    """A batch of structures.

    Attributes:
      positions: `[N, 3]`, angstrom.
      atomic_numbers: `[N]`.
      graph_index: `[N]`, the structure of each atom, ascending from 0.
      senders: `[E]`.
      receivers: `[E]`.
      shifts: `[E, 3]`, Cartesian, angstrom: the lattice translation of each sender.
      tags: `[N]`, 0, 1 or 2, for OC20.
      force_input: `[N, 3]`, forces to encode, for DeNS; None for none.
      noise_mask: `[N]`, the atoms whose force is encoded, for DeNS; None for none.
    """

    positions: np.ndarray
    atomic_numbers: np.ndarray
    graph_index: np.ndarray
    senders: np.ndarray
    receivers: np.ndarray
    shifts: np.ndarray | float = 0.0
    tags: np.ndarray | None = None
    force_input: np.ndarray | None = None
    noise_mask: np.ndarray | None = None


def forward(config: ModelConfig, scope: Scope, inputs: Inputs) -> dict[str, np.ndarray]:
    """The model's outputs and intermediates.

    Returns:
      `energy` `[G]` (network units), `displacement` `[N, 3]` with an auxiliary head, `denoising`
      `[N, 3]` for DeNS; and, for comparison, `atom_embed`, `tag_embed`, `rbf`, `edge_deg_embed`,
      `force_embed`, `block_<i>`, `norm`, `node_energy`.
    """
    trace: dict[str, np.ndarray] = {}
    edges = _edges(config, scope, inputs, trace)
    nodes = _embed(config, scope, inputs, edges, trace)
    node_irreps, feature = config.irreps_node_embedding, config.irreps_feature
    for layer in range(config.num_layers):
        out = feature if layer == config.num_layers - 1 else node_irreps
        nodes = transformer_block(
            scope.child(f"blocks.{layer}"),
            config.attention,
            config.attention_config(node_irreps),
            config.norm_layer,
            nodes,
            edges,
            inputs.graph_index,
            parse(node_irreps),
            parse(config.irreps_mlp_mid),
            parse(out),
        )
        trace[f"block_{layer}"] = nodes
    nodes = equivariant_norm(
        scope.child("norm"), config.norm_layer, nodes, parse(feature), inputs.graph_index
    )
    trace["norm"] = nodes
    _heads(config, scope, inputs, nodes, edges, trace)
    return trace


def _edges(config: ModelConfig, scope: Scope, inputs: Inputs, trace: dict) -> Edges:
    positions, senders, receivers = inputs.positions, inputs.senders, inputs.receivers
    vectors = positions[senders] - positions[receivers] + inputs.shifts
    distances = np.sqrt((vectors * vectors).sum(-1))
    scalars = radial_basis(
        scope, config.basis_type, distances, config.max_radius, config.number_of_basis
    )
    trace["rbf"] = scalars
    if config.use_atom_edge_attr:
        irreps, count = parse(config.irreps_atom_edge_attr), CONSTANTS[config.dataset].max_atom_type
        source, target = scope.child("edge_src_embed"), scope.child("edge_dst_embed")
        of_sender = type_embedding(source, inputs.atomic_numbers, count, irreps)[senders]
        of_receiver = type_embedding(target, inputs.atomic_numbers, count, irreps)[receivers]
        scalars = np.concatenate([of_sender, of_receiver, scalars], axis=-1)
    irreps_sh = parse(config.irreps_sh)
    harmonics = spherical_harmonics(vectors, max(segment.degree for segment in irreps_sh))
    return Edges(senders, receivers, harmonics, irreps_sh, scalars)


def _embed(
    config: ModelConfig, scope: Scope, inputs: Inputs, edges: Edges, trace: dict
) -> np.ndarray:
    constants, irreps = CONSTANTS[config.dataset], parse(config.irreps_node_embedding)
    types = inputs.atomic_numbers
    if config.dataset == "qm9":
        types = np.array([QM9_TYPES[number] for number in types])
    trace["atom_embed"] = type_embedding(
        scope.child("atom_embed"), types, constants.max_atom_type, irreps
    )
    if config.dataset == "oc20":
        trace["tag_embed"] = type_embedding(scope.child("tag_embed"), inputs.tags, 3, irreps)
    trace["edge_deg_embed"] = edge_degree_embedding(
        scope.child("edge_deg_embed"),
        edges,
        len(types),
        irreps,
        config.fc_neurons,
        constants.average_degree,
    )
    if config.dataset == "md17_dens":
        trace["force_embed"] = force_embedding(
            scope.child("force_embed"),
            _encoded_forces(inputs),
            parse(config.irreps_equivariant_inputs),
            irreps,
        )
    names = ("atom_embed", "tag_embed", "edge_deg_embed", "force_embed")
    return sum(trace[name] for name in names if name in trace)


def _encoded_forces(inputs: Inputs) -> np.ndarray:
    if inputs.force_input is None or inputs.noise_mask is None:
        return np.zeros(inputs.positions.shape)
    return np.where(inputs.noise_mask[:, None], inputs.force_input, 0.0)


def _heads(
    config: ModelConfig, scope: Scope, inputs: Inputs, nodes: np.ndarray, edges: Edges, trace: dict
) -> None:
    irreps = parse(config.irreps_feature)
    attention = config.attention_config(config.irreps_feature)
    if config.use_attn_head:
        energy = graph_attention(scope.child("head"), attention, nodes, edges, irreps, SCALAR)
        if config.dataset == "oc20":
            energy = energy + linear(scope.child("head_skip_connect"), nodes, irreps, SCALAR)
    else:
        energy = _scalar_head(config, scope, nodes, irreps)
    trace["node_energy"] = energy
    total = np.zeros(inputs.graph_index.max() + 1, energy.dtype)
    np.add.at(total, inputs.graph_index, energy[:, 0])
    trace["energy"] = total / math.sqrt(CONSTANTS[config.dataset].average_num_nodes)

    vector = _vector_irreps(irreps)
    for name, output, wanted in (
        ("auxiliary_head", "displacement", config.use_auxiliary_task),
        ("denoising_pos_head", "denoising", config.dataset == "md17_dens"),
    ):
        if wanted:
            trace[output] = graph_attention(
                scope.child(name), attention, nodes, edges, irreps, vector
            )


def _scalar_head(
    config: ModelConfig, scope: Scope, nodes: np.ndarray, irreps: Irreps
) -> np.ndarray:
    """Linear map to scalars, scaled SiLU, linear map to one energy per node, `[N, 1]`."""
    scalars = tuple(segment for segment in irreps if segment.is_scalar)
    if config.dataset in ("qm9", "md17") and scalars != irreps:
        raise ValueError(f"irreps_feature {config.irreps_feature}: this head takes 0e only")
    head = scope.child("energy_head" if config.dataset == "md17_dens" else "head")
    hidden = scaled_silu(linear(head.child("0"), nodes, irreps, scalars))
    return linear(head.child("2"), hidden, scalars, SCALAR)


def _vector_irreps(irreps: Irreps) -> Irreps:
    """`1x1o` where the features hold `1o`, otherwise `1x1e`."""
    odd = any(segment.irrep == (1, -1) for segment in irreps)
    return (Segment(1, 1, -1 if odd else 1),)

"""Equiformer: graphs of atoms to energies, and to vectors where a head asks for them."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Mapping
from typing import Any, cast

import e3nn_jax as e3nn
import flax.linen as nn
import jax
import jax.numpy as jnp
import jraph

from equiformer_jax.models.checks import check_graph
from equiformer_jax.models.config import EquiformerConfig
from equiformer_jax.models.element_table import rows_of_elements
from equiformer_jax.nn.attention import AttentionSettings, GraphAttention
from equiformer_jax.nn.block import TransformerBlock
from equiformer_jax.nn.context import GraphContext
from equiformer_jax.nn.edge_blocks import count_blocks
from equiformer_jax.nn.embedding import EdgeDegreeEmbedding, ForceEmbedding
from equiformer_jax.nn.linear import EquivariantLinear, NodeEmbedding
from equiformer_jax.nn.normalization import EquivariantNorm
from equiformer_jax.nn.radial import RadialBasis
from equiformer_jax.nn.recomputation import keeping_products, recomputed
from equiformer_jax.ops.activations import scaled_silu
from equiformer_jax.ops.attention import EdgeList
from equiformer_jax.ops.dropout import equivariant_dropout
from equiformer_jax.ops.frames import aligning_rotation, wigner_matrices
from equiformer_jax.ops.geometry import edge_geometry, edge_vectors
from equiformer_jax.ops.irreps import (
    AliveFeatures,
    Features,
    alive_segment,
    has_irrep,
    multiplicity,
)
from equiformer_jax.ops.radial import log_smooth_envelope
from equiformer_jax.ops.segment import gather_to_edges, graph_index_of_nodes, sum_to_graphs

NUM_TAGS = 3


class Equiformer(nn.Module):
    """The equivariant graph attention transformer (paper section 4; specification sections 5 to 9).

    Attributes:
      config: every hyper-parameter.
      edge_axis: inside `jax.shard_map`, the mesh axis over which the edges of each graph are
        divided: senders, receivers and `shifts` are a contiguous part of the sorted list, of the
        same length on every device; everything else is the same on all (`ops.segment`). Outputs are
        the same on all devices, too. `None`: the edges are all here.
    """

    config: EquiformerConfig
    edge_axis: str | None = None

    @nn.compact
    def __call__(
        self, graph: jraph.GraphsTuple, deterministic: bool = True
    ) -> dict[str, jax.Array]:
        """Evaluates a batch of graphs.

        Args:
          graph: nodes `positions` [N, 3] (angstrom), `atomic_numbers` [N], and for some models
            `tags` [N], `force_input` [N, 3] and `noise_mask` [N]; edges sorted by receiver, with
            `shifts` [E, 3] when periodic; globals `cell` [G, 3, 3] when periodic. Padding is
            jraph's.
          deterministic: no dropout; otherwise a random stream named `dropout` is needed.

        Returns:
          `energy` [G] in network units (standardized or as trained), with an auxiliary task
          `displacement` [N, 3], with denoising `denoising` [N, 3]. Padding graphs have finite
          values without meaning.

        Raises:
          ValueError: the graph does not fit the model (only seen outside `jit`).
        """
        config = self.config
        check_graph(graph, config)
        graph = jax.tree.map(jnp.asarray, graph)
        precision = config.matmul_precision
        with jax.default_matmul_precision(precision) if precision else contextlib.nullcontext():
            context = self._context(graph)
            embedded = self._embed(graph, context)
            features = self._blocks(embedded, context, deterministic)
            normalized = EquivariantNorm(config.irreps_feature, config.norm_layer, name="norm")(
                features, context.graph_index, context.num_graphs
            )
            return self._heads(normalized, context, deterministic)

    def _context(self, graph: jraph.GraphsTuple) -> GraphContext:
        """Geometry and radial basis of the edges."""
        config = self.config
        graph_index = graph_index_of_nodes(graph.n_node, graph.nodes["positions"].shape[0])
        shifts = cells = None
        if graph.edges and "shifts" in graph.edges:
            shifts = graph.edges["shifts"]
            cells = graph.globals["cell"][gather_to_edges(graph_index, graph.receivers)]
        geometry = edge_geometry(
            edge_vectors(graph.nodes["positions"], graph.senders, graph.receivers, shifts, cells)
        )
        scalars = RadialBasis(
            config.basis_type, config.number_of_basis, config.max_radius, name="radial_basis"
        )(geometry.distance)
        if config.use_atom_edge_attr:
            scalars = jnp.concatenate([*self._atom_edge_attributes(graph), scalars], axis=-1)
        valid, log_envelope = geometry.valid, None
        if config.smooth_cutoff:
            valid &= ~(geometry.distance >= config.max_radius)
            log_envelope = log_smooth_envelope(geometry.distance, config.max_radius)
        return GraphContext(
            edges=EdgeList(graph.senders, graph.receivers, valid, log_envelope, self.edge_axis),
            matrices=wigner_matrices(
                aligning_rotation(geometry.direction), _highest_degree(config)
            ),
            scalars=scalars,
            graph_index=graph_index,
            n_node=graph.n_node,
        )

    def _atom_edge_attributes(self, graph: jraph.GraphsTuple) -> tuple[jax.Array, jax.Array]:
        config, rows = self.config, rows_of_elements(graph.nodes["atomic_numbers"], self.config)
        source = NodeEmbedding(
            config.max_atom_type, config.irreps_atom_edge_attr, name="source_embedding"
        )(rows)
        target = NodeEmbedding(
            config.max_atom_type, config.irreps_atom_edge_attr, name="target_embedding"
        )(rows)
        return gather_to_edges(source[:, 0], graph.senders), gather_to_edges(
            target[:, 0], graph.receivers
        )

    def _embed(self, graph: jraph.GraphsTuple, context: GraphContext) -> AliveFeatures:
        """Sum of the embeddings of element, tag, surroundings and force input (section 5)."""
        config = self.config
        irreps = config.irreps_node_embedding
        features = EdgeDegreeEmbedding(
            irreps,
            config.irreps_sh,
            config.fc_neurons,
            config.avg_degree,
            name="edge_degree_embedding",
        )(context)
        rows = rows_of_elements(graph.nodes["atomic_numbers"], config)
        scalars = features[0] + NodeEmbedding(config.max_atom_type, irreps, name="atom_embedding")(
            rows
        )
        if config.use_tags:
            scalars = scalars + NodeEmbedding(NUM_TAGS, irreps, name="tag_embedding")(
                graph.nodes["tags"]
            )
        features = (scalars, *features[1:])
        inputs = config.irreps_equivariant_inputs  # given with `use_force_encoding`, always
        if config.use_force_encoding and inputs is not None:
            forces = ForceEmbedding(inputs, irreps, name="force_embedding")(_force_input(graph))
            features = tuple(x + y for x, y in zip(features, forces, strict=True))
        dtype = jnp.result_type(*features)
        return tuple(x.astype(dtype) for x in features)

    def _blocks(self, features: Features, context: GraphContext, deterministic: bool) -> Features:
        """All blocks but the last are alike and are traced and compiled once, under a scan."""
        config = self.config

        def block(irreps_out: str, name: str, in_loop: bool) -> TransformerBlock:
            return self._block_class(context, in_loop)(
                attention_settings(config),
                config.irreps_node_embedding,
                config.irreps_mlp_mid,
                irreps_out,
                config.norm_layer,
                config.drop_path_rate,
                deterministic,
                name=name,
            )

        def body(
            module: TransformerBlock, carry: Features, context: GraphContext
        ) -> tuple[Features, None]:
            return module(carry, context), None

        if config.num_layers > 1:
            scan = nn.scan(
                body,
                variable_axes={"params": 0},
                split_rngs={"params": True, "dropout": True},
                in_axes=nn.broadcast,
                length=config.num_layers - 1,
            )
            repeated = block(config.irreps_node_embedding, "blocks", in_loop=True)
            features, _ = scan(repeated, features, context)
        return block(config.irreps_feature, "last_block", in_loop=False)(features, context)

    def _block_class(self, context: GraphContext, in_loop: bool) -> type[TransformerBlock]:
        """A block that keeps for its derivatives what the configuration says."""
        config = self.config
        if config.remat:
            return recomputed(TransformerBlock, in_loop)
        if count_blocks(len(context.scalars), config.edge_block_size) > 1:
            return TransformerBlock  # blocks of edges keep nothing; they would keep products
        return keeping_products(TransformerBlock)

    def _heads(
        self, features: Features, context: GraphContext, deterministic: bool
    ) -> dict[str, jax.Array]:
        """Energy and, where the model has them, vectors (sections 7, 8.3 and 9)."""
        config = self.config
        outputs = {"energy": self._energy(features, context, deterministic)}
        vector = "1x1o" if has_irrep(e3nn.Irreps(config.irreps_feature), "1o") else "1x1e"
        for enabled, key in (
            (config.use_auxiliary_task, "displacement"),
            (config.use_denoising, "denoising"),
        ):
            if enabled:
                head = self._attention_head(vector, f"{key}_head", deterministic)
                outputs[key] = alive_segment(head(features, context), 0)[:, :, 0]
        return outputs

    def _attention_head(self, irreps_out: str, name: str, deterministic: bool) -> GraphAttention:
        settings = attention_settings(self.config)
        return GraphAttention(
            settings, self.config.irreps_feature, irreps_out, None, deterministic, name=name
        )

    def _energy(self, features: Features, context: GraphContext, deterministic: bool) -> jax.Array:
        config = self.config
        if config.out_drop and not deterministic:
            irreps = e3nn.Irreps(config.irreps_feature)
            key = self.make_rng("dropout")
            features = equivariant_dropout(
                key, features, irreps, config.out_drop, config.out_drop_scalars_only
            )
        if config.use_attn_head:
            head = self._attention_head("1x0e", "energy_attention", deterministic)
            per_node = alive_segment(head(features, context), 0)
            if config.attn_head_skip_connect:
                skip = EquivariantLinear(config.irreps_feature, "1x0e", name="energy_skip")
                per_node += alive_segment(skip(features), 0)
        else:
            per_node = EnergyHead(config.irreps_feature, name="energy_head")(features)
        totals = sum_to_graphs(per_node[:, 0, 0], context.graph_index, context.num_graphs)
        return totals / config.avg_num_nodes**0.5


class EnergyHead(nn.Module):
    """Two linear layers with SiLU on the even scalars (section 7).

    Attributes:
      irreps_in: irreps of the features.
    """

    irreps_in: str

    @nn.compact
    def __call__(self, features: Features) -> jax.Array:
        """Maps segments `[N, 2l+1, mul]` to `[N, 1, 1]`."""
        scalars = f"{multiplicity(e3nn.Irreps(self.irreps_in), '0e')}x0e"
        hidden = EquivariantLinear(self.irreps_in, scalars, name="linear_1")(features)
        activated = scaled_silu(alive_segment(hidden, 0))
        energies = EquivariantLinear(scalars, "1x0e", name="linear_2")((activated,))
        return alive_segment(energies, 0)


def apply_model(
    model: Equiformer,
    variables: Mapping[str, Any],
    graph: jraph.GraphsTuple,
    deterministic: bool = True,
    rngs: dict[str, jax.Array] | None = None,
) -> dict[str, jax.Array]:
    """`model.apply` with the type of its result: Flax leaves open whether state comes with it.

    Args:
      model: the network.
      variables: its parameters, `{"params": ...}`.
      graph: a batch.
      deterministic: no dropout.
      rngs: random streams, when not deterministic.

    Returns:
      The outputs of `Equiformer.__call__`.
    """
    outputs = model.apply(variables, graph, deterministic, rngs=rngs)
    return cast("dict[str, jax.Array]", outputs)


def attention_settings(config: EquiformerConfig) -> AttentionSettings:
    """The part of a configuration that its attentions share; the fields have the same names."""
    names = [field.name for field in dataclasses.fields(AttentionSettings)]
    return AttentionSettings(**{name: getattr(config, name) for name in names})


def _highest_degree(config: EquiformerConfig) -> int:
    """The highest degree that any layer rotates."""
    fields: list[Any] = [
        config.irreps_node_embedding,
        config.irreps_sh,
        config.irreps_feature,
        config.irreps_head,
    ]
    fields.append(config.irreps_pre_attn or config.irreps_node_embedding)
    return max(e3nn.Irreps(irreps).lmax for irreps in fields)


def _force_input(graph: jraph.GraphsTuple) -> jax.Array:
    """The force input of corrupted atoms, zero elsewhere and where a batch has none (section 9)."""
    nodes = graph.nodes
    if "force_input" not in nodes:
        return jnp.zeros_like(nodes["positions"])
    if "noise_mask" not in nodes:
        return jnp.asarray(nodes["force_input"])
    return jnp.where(nodes["noise_mask"][:, None], nodes["force_input"], 0)

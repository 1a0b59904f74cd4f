"""The whole network for one system, prepared for force evaluations.

Only what depends on the positions is left: parameters of the edges are folded, radial functions
are tabulated if wanted, embeddings of the atoms are looked up once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import e3nn_jax as e3nn
import jax
import jax.numpy as jnp
import numpy as np

from equiformer_jax.inference.dynamics.folded_message import (
    FoldedMessage,
    MessagePlan,
    fold_message,
    plan_message,
)
from equiformer_jax.inference.dynamics.radial_functions import (
    RadialTable,
    build_table,
    network_bases,
    network_kernel,
)
from equiformer_jax.models.config import EquiformerConfig
from equiformer_jax.models.element_table import rows_of_elements
from equiformer_jax.models.equiformer import NUM_TAGS
from equiformer_jax.nn.linear import NodeEmbedding
from equiformer_jax.ops.paths import depthwise_paths
from equiformer_jax.ops.tensor_product import path_runs

Parameters = Mapping[str, Any]

# Atoms are never so close; below this distance (Å) a table goes on with its first value.
SHORTEST_DISTANCE = 0.3
# Of the radial functions; forces are then off by some 1e-6 of the largest one, well below float32.
TABLE_TOLERANCE = 1e-6


class FoldedLayer(NamedTuple):
    """Parameters of one block: the message folded, what acts on nodes as it is."""

    message: FoldedMessage
    radial_kernel: jax.Array
    nodes: Any


class FoldedNetwork(NamedTuple):
    """All parameters of a network for one system.

    Attributes:
      layers: the blocks.
      embedding: of each segment of the node features, from the radial basis of the embedding to the
        channels, `[R, mul]`; `None` where there is no path.
      embedding_bias: what each neighbor adds to the even scalars, `[mul]`.
      atoms: `[N, 1, mul]`, embeddings of elements and tags.
      table: radial functions, or `None`.
      networks: parameters of the radial basis and the radial networks where there is no table.
      head: final normalization and energy head.
    """

    layers: tuple[FoldedLayer, ...]
    embedding: tuple[jax.Array | None, ...]
    embedding_bias: jax.Array
    atoms: jax.Array
    table: RadialTable | None
    networks: Any
    head: Any


class NetworkPlan(NamedTuple):
    """What is known without parameters.

    Attributes:
      config: the model.
      messages: the layout of each block's message.
    """

    config: EquiformerConfig
    messages: tuple[MessagePlan, ...]


def why_not_foldable(config: EquiformerConfig) -> str | None:
    """The field of a configuration that only the general model can evaluate; `None` if all fit."""
    wrong = {
        "attention": config.attention != "mlp",
        "nonlinear_message": not config.nonlinear_message,
        "use_attn_head": config.use_attn_head,
        "use_force_encoding": config.use_force_encoding,
        "compute_dtype": config.compute_dtype is not None,
    }
    return next((field for field, is_wrong in wrong.items() if is_wrong), None)


def fold_network(
    config: EquiformerConfig,
    params: Parameters,
    atomic_numbers: np.ndarray,
    tags: np.ndarray | None,
    use_table: bool,
) -> tuple[NetworkPlan, FoldedNetwork, float | None]:
    """Folds a network.

    Args:
      config: the model; `why_not_foldable` says nothing against it.
      params: its parameters.
      atomic_numbers: `[N]`.
      tags: `[N]`, for models that read them.
      use_table: tabulate the radial functions.

    Returns:
      Layout, arrays of the parameters' type, and the error of the tabulated weights relative to the
      largest of their layer, `None` without a table.
    """
    dtype = jax.tree.leaves(params)[0].dtype
    exact = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
    blocks = [
        jax.tree.map(lambda leaf, i=i: leaf[i], exact["blocks"])
        for i in range(config.num_layers - 1)
    ]
    blocks.append(exact["last_block"])
    messages = tuple(
        _plan_of_block(config, is_last=index == len(blocks) - 1) for index in range(len(blocks))
    )
    networks = [block["attention"]["message"]["radial"] for block in blocks]
    networks.append(exact["edge_degree_embedding"]["radial"])
    basis = exact.get("radial_basis", {})
    kernels: list[Any] = [network_kernel(network) for network in networks]
    table, error = None, None
    if use_table:
        with jax.enable_x64(True):
            table, error = build_table(
                jax.jit(lambda distances: network_bases(config, basis, networks, distances)),
                SHORTEST_DISTANCE,
                config.max_radius,
                TABLE_TOLERANCE,
            )
    layers = tuple(
        FoldedLayer(
            fold_message(plan, config.irreps_sh, config.irreps_head, block["attention"]["message"]),
            kernel,
            _without_message(block),
        )
        for plan, block, kernel in zip(messages, blocks, kernels[:-1], strict=True)
    )
    embedding, bias = _fold_embedding(config, exact["edge_degree_embedding"], kernels[-1])
    folded = FoldedNetwork(
        layers,
        embedding,
        bias,
        _embed_atoms(config, exact, atomic_numbers, tags),
        table,
        None if use_table else _exact_networks(config, exact, networks, atomic_numbers),
        {"norm": exact["norm"], "energy_head": exact["energy_head"]},
    )
    folded = jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), folded)
    return NetworkPlan(config, messages), folded, error


def _exact_networks(
    config: EquiformerConfig,
    params: Parameters,
    networks: Sequence[Parameters],
    atomic_numbers: np.ndarray,
) -> dict[str, Any]:
    """Parameters of the radial functions, and the attributes `[N, A]` that they read."""
    found: dict[str, Any] = {"basis": params.get("radial_basis", {}), "networks": networks}
    if config.use_atom_edge_attr:
        irreps = config.irreps_atom_edge_attr
        with jax.enable_x64(True):
            rows = rows_of_elements(jnp.asarray(atomic_numbers), config)
            for end in ("source", "target"):
                embedding = NodeEmbedding(config.max_atom_type, irreps).apply(
                    {"params": params[f"{end}_embedding"]}, rows
                )
                found[end] = np.asarray(embedding)[:, 0]
    return found


def _plan_of_block(config: EquiformerConfig, is_last: bool) -> MessagePlan:
    irreps_in = config.irreps_node_embedding
    outputs = e3nn.Irreps(config.irreps_feature if is_last else irreps_in)
    read = {str(ir) for _, ir in outputs} | {"0e"}
    alive_irreps = [str(ir) for _, ir in e3nn.Irreps(irreps_in) if str(ir) in read]
    return plan_message(
        config.irreps_pre_attn or irreps_in,
        config.irreps_sh,
        config.irreps_head,
        config.num_heads,
        alive_irreps,
    )


def _without_message(block: Parameters) -> dict[str, Any]:
    attention = {key: value for key, value in block["attention"].items() if key != "message"}
    return {**block, "attention": attention}


def _fold_embedding(
    config: EquiformerConfig, parameters: Parameters, radial_kernel: np.ndarray
) -> tuple[tuple[Any, ...], Any]:
    irreps = config.irreps_node_embedding
    paths = depthwise_paths(irreps, config.irreps_sh, irreps)
    vector = parameters["constant"]["0e"][0] + parameters["constant"]["bias"]
    scale = config.avg_degree**-0.5
    found: dict[str, np.ndarray] = {}
    for group, (_, ir), columns in zip(
        paths.groups, paths.irreps_out, paths.group_slices, strict=True
    ):
        for run in path_runs(group):
            if (
                paths.irreps_in[run.segment].ir == e3nn.Irrep("0e")
                and str(ir) in parameters["projection"]
            ):
                start = columns.start + run.start
                weighted = radial_kernel[:, start : start + run.mul] * vector
                rows = parameters["projection"][str(ir)][run.start : run.stop]
                found[str(ir)] = scale * weighted @ rows
    kernels = tuple(found.get(str(ir)) for _, ir in e3nn.Irreps(irreps))
    return kernels, scale * parameters["projection"]["bias"]


def _embed_atoms(
    config: EquiformerConfig,
    params: Parameters,
    atomic_numbers: np.ndarray,
    tags: np.ndarray | None,
) -> Any:
    irreps = config.irreps_node_embedding
    with jax.enable_x64(True):
        rows = rows_of_elements(jnp.asarray(atomic_numbers), config)
        total = NodeEmbedding(config.max_atom_type, irreps).apply(
            {"params": params["atom_embedding"]}, rows
        )
        if config.use_tags:
            total += NodeEmbedding(NUM_TAGS, irreps).apply(
                {"params": params["tag_embedding"]}, jnp.asarray(tags)
            )
        return np.asarray(total)

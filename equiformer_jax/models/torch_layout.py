"""Where each parameter of the official release lives in this package's tree, and in which layout.

The official release keeps flat weight vectors in the order of its loops; this package keeps one matrix per
irrep, tensor-product weights in the order of `ops.paths`, and identical blocks stacked. A `Slot` translates one
official array into leaves of the tree and back; both ways only move numbers.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence

import e3nn_jax as e3nn
import numpy as np

from equiformer_jax.models.config import EquiformerConfig
from equiformer_jax.ops.irreps import gate_input, has_irrep, multiplicity, repeat_irreps
from equiformer_jax.ops.paths import DepthwisePaths, depthwise_paths

TreePath = tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Slot:
    """One official parameter.

    Attributes:
      name: name in the official state dict.
      shape: its shape there.
      paths: leaves of this package's tree that it fills.
      unpack: official array -> one array per leaf.
      pack: the inverse.
      layer: index on the leading axis of the leaves, for stacked blocks.
    """

    name: str
    shape: tuple[int, ...]
    paths: tuple[TreePath, ...]
    unpack: Callable[[np.ndarray], Sequence[np.ndarray]]
    pack: Callable[[Sequence[np.ndarray]], np.ndarray]
    layer: int | None = None


def parameter_slots(config: EquiformerConfig) -> Iterator[Slot]:
    """All parameters of a model, in the order of the official module tree."""
    node, rows = config.irreps_node_embedding, config.max_atom_type
    yield from _embedding("atom_embed", ("atom_embedding",), rows, node)
    if config.use_tags:
        yield from _embedding("tag_embed", ("tag_embedding",), 3, node)
    if config.use_atom_edge_attr:
        yield from _embedding("edge_src_embed", ("source_embedding",), rows, config.irreps_atom_edge_attr)
        yield from _embedding("edge_dst_embed", ("target_embedding",), rows, config.irreps_atom_edge_attr)
    yield from _basis(config)
    yield from _edge_degree(config)
    if config.use_force_encoding:
        yield from _linear("force_embed", ("force_embedding", "linear"), config.irreps_equivariant_inputs, node)
    for layer in range(config.num_layers - 1):
        for slot in _block(config, f"blocks.{layer}", ("blocks",), node):
            yield dataclasses.replace(slot, layer=layer)
    yield from _block(config, f"blocks.{config.num_layers - 1}", ("last_block",), config.irreps_feature)
    yield from _norm(config, "norm", ("norm",), config.irreps_feature)
    yield from _heads(config)


def _same(name: str, path: TreePath, official: tuple[int, ...], ours: tuple[int, ...], transpose: bool = False) -> Slot:
    """One array, reshaped, perhaps transposed."""

    def unpack(array: np.ndarray) -> Sequence[np.ndarray]:
        return (np.ascontiguousarray(array.T) if transpose else array.reshape(ours),)

    def pack(leaves: Sequence[np.ndarray]) -> np.ndarray:
        return np.ascontiguousarray(leaves[0].T) if transpose else leaves[0].reshape(official)

    return Slot(name, official, (path,), unpack, pack)


def _ordered(name: str, path: TreePath, order: np.ndarray, columns: int | None = None) -> Slot:
    """A vector `[W]`, or a matrix `[W, columns]` kept transposed here, in this package's order of weights."""
    inverse = np.argsort(order)
    if columns is None:
        return Slot(name, (len(order),), (path,), lambda a: (a[order],), lambda leaves: leaves[0][inverse])
    return Slot(
        name,
        (len(order), columns),
        (path,),
        lambda a: (np.ascontiguousarray(a[order].T),),
        lambda leaves: np.ascontiguousarray(leaves[0].T[inverse]),
    )


def _linear(
    name: str,
    path: TreePath,
    irreps_in: str | e3nn.Irreps,
    irreps_out: str | e3nn.Irreps,
    bias: bool = True,
    row_orders: Sequence[np.ndarray] | None = None,
) -> Iterator[Slot]:
    """A flat weight, input segment by input segment, and a list of biases."""
    sources, targets = e3nn.Irreps(irreps_in), e3nn.Irreps(irreps_out)
    blocks = [
        (index, str(ir), mul, multiplicity(targets, ir)) for index, (mul, ir) in enumerate(sources)
        if has_irrep(targets, str(ir))
    ]
    sizes = [rows * columns for _, _, rows, columns in blocks]
    orders = [np.arange(rows) if row_orders is None else row_orders[i] for i, _, rows, _ in blocks]

    def unpack(array: np.ndarray) -> Sequence[np.ndarray]:
        parts = np.split(array, np.cumsum(sizes)[:-1])
        return [
            part.reshape(rows, columns)[order]
            for part, order, (_, _, rows, columns) in zip(parts, orders, blocks, strict=True)
        ]

    def pack(leaves: Sequence[np.ndarray]) -> np.ndarray:
        return np.concatenate([leaf[np.argsort(o)].ravel() for leaf, o in zip(leaves, orders, strict=True)])

    yield Slot(f"{name}.tp.weight", (sum(sizes),), tuple((*path, ir) for _, ir, _, _ in blocks), unpack, pack)
    scalars = multiplicity(targets, "0e")
    if bias and scalars:
        yield _same(f"{name}.bias.0", (*path, "bias"), (scalars,), (scalars,))


def _linear_after(
    name: str, path: TreePath, paths: DepthwisePaths, irreps_out: str | e3nn.Irreps
) -> Iterator[Slot]:
    """A linear map of a depthwise product, whose rows follow the order of the paths."""
    return _linear(name, path, paths.irreps_out, irreps_out, row_orders=paths.row_orders())


def _embedding(name: str, path: TreePath, rows: int, irreps: str) -> Iterator[Slot]:
    return _linear(f"{name}.atom_type_lin", (*path, "table"), f"{rows}x0e", irreps)


def _basis(config: EquiformerConfig) -> Iterator[Slot]:
    number, path = config.number_of_basis, ("radial_basis",)
    if config.basis_type == "gaussian":
        for leaf, shape in (("mean", (number,)), ("std", (number,)), ("weight", ()), ("bias", ())):
            yield _same(f"rbf.{leaf}", (*path, leaf), (1, *shape) if shape else (1, 1), shape)
    elif config.basis_type == "bessel":
        yield _same("rbf.rbf.frequencies", (*path, "frequencies"), (number,), (number,))


def _radial(config: EquiformerConfig, name: str, path: TreePath, paths: DepthwisePaths) -> Iterator[Slot]:
    width = config.number_of_basis
    if config.use_atom_edge_attr:
        width += 2 * e3nn.Irreps(config.irreps_atom_edge_attr).dim
    for index, hidden in enumerate(config.fc_neurons):
        dense, norm = 3 * index, 3 * index + 1
        yield _same(f"{name}.net.{dense}.weight", (*path, f"dense_{index}", "kernel"), (hidden, width), (), True)
        yield _same(f"{name}.net.{dense}.bias", (*path, f"dense_{index}", "bias"), (hidden,), (hidden,))
        yield _same(f"{name}.net.{norm}.weight", (*path, f"norm_{index}", "scale"), (hidden,), (hidden,))
        yield _same(f"{name}.net.{norm}.bias", (*path, f"norm_{index}", "bias"), (hidden,), (hidden,))
        width = hidden
    order = paths.weight_order()
    yield _ordered(f"{name}.net.{3 * len(config.fc_neurons)}.weight", (*path, "kernel"), order, width)
    yield _ordered(f"{name}.offset", (*path, "offset"), order)


def _edge_degree(config: EquiformerConfig) -> Iterator[Slot]:
    node, path, name = config.irreps_node_embedding, ("edge_degree_embedding",), "edge_deg_embed"
    paths = depthwise_paths(node, config.irreps_sh, node)
    yield from _linear(f"{name}.exp", (*path, "constant"), "1x0e", node)
    yield from _radial(config, f"{name}.rad", (*path, "radial"), paths)
    yield from _linear_after(f"{name}.proj", (*path, "projection"), paths, node)


def _norm(config: EquiformerConfig, name: str, path: TreePath, irreps: str) -> Iterator[Slot]:
    copies, scalars = e3nn.Irreps(irreps).num_irreps, multiplicity(e3nn.Irreps(irreps), "0e")
    if config.norm_layer == "graph":
        yield _same(f"{name}.mean_shift", (*path, "mean_shift"), (scalars,), (scalars,))
    yield _same(f"{name}.affine_weight", (*path, "affine_weight"), (copies,), (copies,))
    yield _same(f"{name}.affine_bias", (*path, "affine_bias"), (scalars,), (scalars,))


def _block(config: EquiformerConfig, name: str, path: TreePath, irreps_out: str) -> Iterator[Slot]:
    node, mid = config.irreps_node_embedding, config.irreps_mlp_mid
    attention = "dpa" if config.attention == "dot_product" else "ga"
    yield from _norm(config, f"{name}.norm_1", (*path, "norm_1"), node)
    yield from _attention(config, f"{name}.{attention}", (*path, "attention"), node, node)
    yield from _norm(config, f"{name}.norm_2", (*path, "norm_2"), node)
    yield from _linear(f"{name}.ffn.fctp_1", (*path, "feed_forward", "linear_1"), node, gate_input(e3nn.Irreps(mid)))
    yield from _linear(f"{name}.ffn.fctp_2", (*path, "feed_forward", "linear_2"), mid, irreps_out)
    if irreps_out != node:
        yield from _linear(f"{name}.ffn_shortcut", (*path, "shortcut"), node, irreps_out)


def _attention(
    config: EquiformerConfig, name: str, path: TreePath, irreps_in: str, irreps_out: str
) -> Iterator[Slot]:
    message = config.irreps_pre_attn or irreps_in
    values = repeat_irreps(config.irreps_head, config.num_heads)
    inner = (*path, "message")
    if config.attention == "dot_product":
        yield from _linear(f"{name}.query", (*path, "query"), irreps_in, values)
    else:
        channels = multiplicity(e3nn.Irreps(config.irreps_head), "0e")
        shape = (config.num_heads, channels)
        yield _same(f"{name}.alpha_dot", (*inner, "logits", "alpha_dot"), (1, *shape), shape)
    yield from _linear(f"{name}.merge_src", (*path, "source"), irreps_in, message)
    yield from _linear(f"{name}.merge_dst", (*path, "target"), irreps_in, message, bias=False)
    if config.attention == "dot_product":
        yield from _single_product(config, f"{name}.key_value", inner, message, repeat_irreps(values, 2))
    elif config.nonlinear_message:
        yield from _nonlinear_message(config, name, inner, message, values)
    else:
        outputs = (e3nn.Irreps(f"{multiplicity(values, '0e')}x0e") + values).simplify()
        yield from _single_product(config, f"{name}.sep", inner, message, outputs)
    yield from _linear(f"{name}.proj", (*path, "projection"), values, irreps_out)


def _single_product(
    config: EquiformerConfig, name: str, path: TreePath, message: str, outputs: e3nn.Irreps
) -> Iterator[Slot]:
    paths = depthwise_paths(message, config.irreps_sh, str(outputs))
    yield from _radial(config, f"{name}.dtp_rad", (*path, "radial"), paths)
    yield from _linear_after(f"{name}.lin", (*path, "message_linear"), paths, outputs)


def _nonlinear_message(
    config: EquiformerConfig, name: str, path: TreePath, message: str, values: e3nn.Irreps
) -> Iterator[Slot]:
    yield from _single_product_with_gate(config, name, path, message)
    first = depthwise_paths(message, config.irreps_sh, message)
    scores = f"{multiplicity(values, '0e')}x0e"
    yield from _linear_after(f"{name}.sep_alpha", (*path, "alpha_linear"), first, scores)
    second = depthwise_paths(message, config.irreps_sh, str(values))
    yield _ordered(f"{name}.sep_value.dtp.tp.weight", (*path, "tensor_product_weight"), second.weight_order())
    yield from _linear_after(f"{name}.sep_value.lin", (*path, "value_linear"), second, values)


def _single_product_with_gate(config: EquiformerConfig, name: str, path: TreePath, message: str) -> Iterator[Slot]:
    paths = depthwise_paths(message, config.irreps_sh, message)
    yield from _radial(config, f"{name}.sep_act.dtp_rad", (*path, "radial"), paths)
    outputs = gate_input(e3nn.Irreps(message))
    yield from _linear_after(f"{name}.sep_act.lin", (*path, "message_linear"), paths, outputs)


def _heads(config: EquiformerConfig) -> Iterator[Slot]:
    feature = config.irreps_feature
    if config.use_attn_head:
        yield from _attention(config, "head", ("energy_attention",), feature, "1x0e")
        if config.attn_head_skip_connect:
            yield from _linear("head_skip_connect", ("energy_skip",), feature, "1x0e")
    else:
        name = "energy_head" if config.use_denoising else "head"
        scalars = f"{multiplicity(e3nn.Irreps(feature), '0e')}x0e"
        yield from _linear(f"{name}.0", ("energy_head", "linear_1"), feature, scalars)
        yield from _linear(f"{name}.2", ("energy_head", "linear_2"), scalars, "1x0e")
    vector = "1x1o" if has_irrep(e3nn.Irreps(feature), "1o") else "1x1e"
    if config.use_auxiliary_task:
        yield from _attention(config, "auxiliary_head", ("displacement_head",), feature, vector)
    if config.use_denoising:
        yield from _attention(config, "denoising_pos_head", ("denoising_head",), feature, vector)

"""Where each parameter of the official release lives in this package's tree, and in which layout.

The official release keeps flat weight vectors in the order of its loops; this package keeps one
matrix per irrep, tensor-product weights in the order of `ops.paths`, and identical blocks stacked.
A `Slot` translates one official array into leaves of the tree and back; both ways only move
numbers.

The functions below follow the official module tree. Each yields the parameters of one kind of
module from `name`, the module's name there, and `path`, its place in this package's tree.
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
    yield from embedding_slots("atom_embed", ("atom_embedding",), rows, node)
    if config.use_tags:
        yield from embedding_slots("tag_embed", ("tag_embedding",), 3, node)
    if config.use_atom_edge_attr:
        yield from embedding_slots(
            "edge_src_embed", ("source_embedding",), rows, config.irreps_atom_edge_attr
        )
        yield from embedding_slots(
            "edge_dst_embed", ("target_embedding",), rows, config.irreps_atom_edge_attr
        )
    yield from basis_slots(config)
    yield from edge_degree_slots(config)
    if config.use_force_encoding:
        yield from linear_slots(
            "force_embed", ("force_embedding", "linear"), config.irreps_equivariant_inputs, node
        )
    for layer in range(config.num_layers - 1):
        for slot in block_slots(config, f"blocks.{layer}", ("blocks",), node):
            yield dataclasses.replace(slot, layer=layer)
    yield from block_slots(
        config, f"blocks.{config.num_layers - 1}", ("last_block",), config.irreps_feature
    )
    yield from norm_slots(config, "norm", ("norm",), config.irreps_feature)
    yield from heads_slots(config)


def _same(
    name: str,
    path: TreePath,
    official: tuple[int, ...],
    ours: tuple[int, ...],
    transpose: bool = False,
) -> Slot:
    """One array, reshaped, perhaps transposed."""

    def unpack(array: np.ndarray) -> Sequence[np.ndarray]:
        return (np.ascontiguousarray(array.T) if transpose else array.reshape(ours),)

    def pack(leaves: Sequence[np.ndarray]) -> np.ndarray:
        return np.ascontiguousarray(leaves[0].T) if transpose else leaves[0].reshape(official)

    return Slot(name, official, (path,), unpack, pack)


def _ordered(name: str, path: TreePath, order: np.ndarray, columns: int | None = None) -> Slot:
    """Tensor-product weights, in this package's order.

    A vector `[W]`, or a matrix `[W, columns]` that is kept transposed here.
    """
    inverse = np.argsort(order)
    if columns is None:
        return Slot(
            name, (len(order),), (path,), lambda a: (a[order],), lambda leaves: leaves[0][inverse]
        )
    return Slot(
        name,
        (len(order), columns),
        (path,),
        lambda a: (np.ascontiguousarray(a[order].T),),
        lambda leaves: np.ascontiguousarray(leaves[0].T[inverse]),
    )


def linear_slots(
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
        (index, str(ir), mul, multiplicity(targets, ir))
        for index, (mul, ir) in enumerate(sources)
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
        return np.concatenate(
            [leaf[np.argsort(o)].ravel() for leaf, o in zip(leaves, orders, strict=True)]
        )

    yield Slot(
        f"{name}.tp.weight",
        (sum(sizes),),
        tuple((*path, ir) for _, ir, _, _ in blocks),
        unpack,
        pack,
    )
    scalars = multiplicity(targets, "0e")
    if bias and scalars:
        yield _same(f"{name}.bias.0", (*path, "bias"), (scalars,), (scalars,))


def linear_after_slots(
    name: str, path: TreePath, paths: DepthwisePaths, irreps_out: str | e3nn.Irreps
) -> Iterator[Slot]:
    """A linear map of a depthwise product, whose rows follow the order of the paths."""
    return linear_slots(name, path, paths.irreps_out, irreps_out, row_orders=paths.row_orders())


def embedding_slots(name: str, path: TreePath, rows: int, irreps: str) -> Iterator[Slot]:
    """A table with one row per type of atom (or tag): a linear map of one-hot vectors."""
    return linear_slots(f"{name}.atom_type_lin", (*path, "table"), f"{rows}x0e", irreps)


def basis_slots(config: EquiformerConfig) -> Iterator[Slot]:
    """The radial basis; only the Gaussian and the Bessel one have parameters."""
    number, path = config.number_of_basis, ("radial_basis",)
    if config.basis_type == "gaussian":
        for leaf, shape in (("mean", (number,)), ("std", (number,)), ("weight", ()), ("bias", ())):
            yield _same(f"rbf.{leaf}", (*path, leaf), (1, *shape) if shape else (1, 1), shape)
    elif config.basis_type == "bessel":
        yield _same("rbf.rbf.frequencies", (*path, "frequencies"), (number,), (number,))


def radial_slots(
    config: EquiformerConfig, name: str, path: TreePath, paths: DepthwisePaths
) -> Iterator[Slot]:
    """A radial network, whose last layer ends in the weights of `paths`.

    The official `net` is a list: linear layer, layer norm, SiLU for each hidden width, so linear
    layers have the numbers 0, 3, 6, ... and norms the numbers 1, 4, 7, ...
    """
    width = config.number_of_basis
    if config.use_atom_edge_attr:
        width += 2 * e3nn.Irreps(config.irreps_atom_edge_attr).dim
    for index, hidden in enumerate(config.fc_neurons):
        dense, norm = 3 * index, 3 * index + 1
        yield _same(
            f"{name}.net.{dense}.weight",
            (*path, f"dense_{index}", "kernel"),
            (hidden, width),
            (),
            True,
        )
        yield _same(
            f"{name}.net.{dense}.bias", (*path, f"dense_{index}", "bias"), (hidden,), (hidden,)
        )
        yield _same(
            f"{name}.net.{norm}.weight", (*path, f"norm_{index}", "scale"), (hidden,), (hidden,)
        )
        yield _same(
            f"{name}.net.{norm}.bias", (*path, f"norm_{index}", "bias"), (hidden,), (hidden,)
        )
        width = hidden
    order = paths.weight_order()
    yield _ordered(
        f"{name}.net.{3 * len(config.fc_neurons)}.weight", (*path, "kernel"), order, width
    )
    yield _ordered(f"{name}.offset", (*path, "offset"), order)


def edge_degree_slots(config: EquiformerConfig) -> Iterator[Slot]:
    """The embedding of the surroundings: constant vector, radial network, linear map."""
    node, path, name = config.irreps_node_embedding, ("edge_degree_embedding",), "edge_deg_embed"
    paths = depthwise_paths(node, config.irreps_sh, node)
    yield from linear_slots(f"{name}.exp", (*path, "constant"), "1x0e", node)
    yield from radial_slots(config, f"{name}.rad", (*path, "radial"), paths)
    yield from linear_after_slots(f"{name}.proj", (*path, "projection"), paths, node)


def norm_slots(config: EquiformerConfig, name: str, path: TreePath, irreps: str) -> Iterator[Slot]:
    """An equivariant normalization of `irreps`; only the `graph` norm has a mean shift."""
    copies, scalars = e3nn.Irreps(irreps).num_irreps, multiplicity(e3nn.Irreps(irreps), "0e")
    if config.norm_layer == "graph":
        yield _same(f"{name}.mean_shift", (*path, "mean_shift"), (scalars,), (scalars,))
    yield _same(f"{name}.affine_weight", (*path, "affine_weight"), (copies,), (copies,))
    yield _same(f"{name}.affine_bias", (*path, "affine_bias"), (scalars,), (scalars,))


def block_slots(
    config: EquiformerConfig, name: str, path: TreePath, irreps_out: str
) -> Iterator[Slot]:
    """A transformer block; it has a shortcut map where its irreps change."""
    node, mid = config.irreps_node_embedding, config.irreps_mlp_mid
    attention = "dpa" if config.attention == "dot_product" else "ga"
    yield from norm_slots(config, f"{name}.norm_1", (*path, "norm_1"), node)
    yield from attention_slots(config, f"{name}.{attention}", (*path, "attention"), node, node)
    yield from norm_slots(config, f"{name}.norm_2", (*path, "norm_2"), node)
    yield from linear_slots(
        f"{name}.ffn.fctp_1",
        (*path, "feed_forward", "linear_1"),
        node,
        gate_input(e3nn.Irreps(mid)),
    )
    yield from linear_slots(
        f"{name}.ffn.fctp_2", (*path, "feed_forward", "linear_2"), mid, irreps_out
    )
    if irreps_out != node:
        yield from linear_slots(f"{name}.ffn_shortcut", (*path, "shortcut"), node, irreps_out)


def attention_slots(
    config: EquiformerConfig, name: str, path: TreePath, irreps_in: str, irreps_out: str
) -> Iterator[Slot]:
    """An attention with any of the three messages, in a block or as a head."""
    message = config.irreps_pre_attn or irreps_in
    values = repeat_irreps(config.irreps_head, config.num_heads)
    inner = (*path, "message")
    if config.attention == "dot_product":
        yield from linear_slots(f"{name}.query", (*path, "query"), irreps_in, values)
    else:
        channels = multiplicity(e3nn.Irreps(config.irreps_head), "0e")
        shape = (config.num_heads, channels)
        yield _same(f"{name}.alpha_dot", (*inner, "logits", "alpha_dot"), (1, *shape), shape)
    yield from linear_slots(f"{name}.merge_src", (*path, "source"), irreps_in, message)
    yield from linear_slots(f"{name}.merge_dst", (*path, "target"), irreps_in, message, bias=False)
    if config.attention == "dot_product":
        yield from single_product_slots(
            config, f"{name}.key_value", inner, message, repeat_irreps(values, 2)
        )
    elif config.nonlinear_message:
        yield from nonlinear_message_slots(config, name, inner, message, values)
    else:
        outputs = (e3nn.Irreps(f"{multiplicity(values, '0e')}x0e") + values).simplify()
        yield from single_product_slots(config, f"{name}.sep", inner, message, outputs)
    # The dot-product attention keeps the library's order, odd before even, up to its projection.
    is_dot_product = config.attention == "dot_product"
    inputs = (
        e3nn.Irreps(sorted(values, key=lambda s: (s.ir.l, s.ir.p))) if is_dot_product else values
    )
    yield from linear_slots(f"{name}.proj", (*path, "projection"), inputs, irreps_out)


def single_product_slots(
    config: EquiformerConfig, name: str, path: TreePath, message: str, outputs: e3nn.Irreps
) -> Iterator[Slot]:
    """A message of one tensor product and one linear map to `outputs`."""
    paths = depthwise_paths(message, config.irreps_sh, str(outputs))
    yield from radial_slots(config, f"{name}.dtp_rad", (*path, "radial"), paths)
    yield from linear_after_slots(f"{name}.lin", (*path, "message_linear"), paths, outputs)


def nonlinear_message_slots(
    config: EquiformerConfig, name: str, path: TreePath, message: str, values: e3nn.Irreps
) -> Iterator[Slot]:
    """The nonlinear message: gated product, scores, and a second product with shared weights."""
    yield from gated_product_slots(config, name, path, message)
    first = depthwise_paths(message, config.irreps_sh, message)
    scores = f"{multiplicity(values, '0e')}x0e"
    yield from linear_after_slots(f"{name}.sep_alpha", (*path, "alpha_linear"), first, scores)
    second = depthwise_paths(message, config.irreps_sh, str(values))
    yield _ordered(
        f"{name}.sep_value.dtp.tp.weight", (*path, "tensor_product_weight"), second.weight_order()
    )
    yield from linear_after_slots(f"{name}.sep_value.lin", (*path, "value_linear"), second, values)


def gated_product_slots(
    config: EquiformerConfig, name: str, path: TreePath, message: str
) -> Iterator[Slot]:
    """The first tensor product of the nonlinear message, with its linear map to a gate."""
    paths = depthwise_paths(message, config.irreps_sh, message)
    yield from radial_slots(config, f"{name}.sep_act.dtp_rad", (*path, "radial"), paths)
    outputs = gate_input(e3nn.Irreps(message))
    yield from linear_after_slots(f"{name}.sep_act.lin", (*path, "message_linear"), paths, outputs)


def heads_slots(config: EquiformerConfig) -> Iterator[Slot]:
    """The energy head and, where the model has them, the heads that predict vectors."""
    feature = config.irreps_feature
    if config.use_attn_head:
        yield from attention_slots(config, "head", ("energy_attention",), feature, "1x0e")
        if config.attn_head_skip_connect:
            yield from linear_slots("head_skip_connect", ("energy_skip",), feature, "1x0e")
    else:
        name = "energy_head" if config.use_denoising else "head"
        scalars = f"{multiplicity(e3nn.Irreps(feature), '0e')}x0e"
        yield from linear_slots(f"{name}.0", ("energy_head", "linear_1"), feature, scalars)
        yield from linear_slots(f"{name}.2", ("energy_head", "linear_2"), scalars, "1x0e")
    vector = "1x1o" if has_irrep(e3nn.Irreps(feature), "1o") else "1x1e"
    if config.use_auxiliary_task:
        yield from attention_slots(
            config, "auxiliary_head", ("displacement_head",), feature, vector
        )
    if config.use_denoising:
        yield from attention_slots(
            config, "denoising_pos_head", ("denoising_head",), feature, vector
        )

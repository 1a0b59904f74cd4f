"""What every node gathers from its neighbors: the forward pass of `edge_attention`."""

from __future__ import annotations

from typing import NamedTuple

import e3nn_jax as e3nn
import jax
import jax.numpy as jnp

from equiformer_jax.inference.dynamics.folded_message import (
    FoldedMessage,
    MessagePlan,
    OrderProduct,
    num_gates,
)
from equiformer_jax.inference.dynamics.rows import (
    rotate_back,
    rotate_rows,
    rows_at_edges,
    sum_rows,
    sum_rows_to_nodes,
)
from equiformer_jax.ops.activations import scaled_sigmoid, scaled_silu, scaled_smooth_leaky_relu
from equiformer_jax.ops.segment import gather_to_edges

# Of each segment of a message, of each order m, one `[channels, E]` for 0 or for -m and +m.
Products = tuple[tuple[tuple[jax.Array, ...], ...], ...]


class EdgeArrays(NamedTuple):
    """What is known of `E` edges and does not change from layer to layer.

    The second half of the edges are those of the first half reversed.

    Attributes:
      senders: `[E]`.
      receivers: `[E]`.
      valid: `[E]` bool.
      matrices: Wigner matrices of degrees 1 and up, `[2l+1, 2l+1, E]`.
    """

    senders: jax.Array
    receivers: jax.Array
    valid: jax.Array
    matrices: tuple[jax.Array, ...]


class RadialWeights(NamedTuple):
    """Radial functions of a layer at the edges, the last linear map not applied.

    Attributes:
      basis: `[E / 2, R]`, functions of the distance of each pair; `[E, R]` where its edges differ.
      slopes: of the same shape, their derivatives by the distance.
      kernel: `[R, weights]`.
    """

    basis: jax.Array
    slopes: jax.Array
    kernel: jax.Array


class Constants(NamedTuple):
    """Everything that no gradient is taken by: parameters, radial functions, edges."""

    message: FoldedMessage
    radial: RadialWeights
    edges: EdgeArrays


class Saved(NamedTuple):
    """What the reverse pass needs of the forward pass.

    Attributes:
      aligned: of each segment of the message `[2l+1, mul, E]` in the frames of the edges.
      weights: radial weights `[W, E / 2]` or `[W, E]`.
      products: the first product.
      values: of each segment of the values its components `[mul, E]`, `None` where zero.
      softmax: `[heads, E]`.
      strength: envelope `[1, E]`, or `None`.
      totals: `[N, D]`, the result.
    """

    aligned: list[jax.Array]
    weights: jax.Array
    products: Products
    values: tuple[tuple[jax.Array | None, ...], ...]
    softmax: jax.Array
    strength: jax.Array | None
    totals: jax.Array


def attend_over_edges(
    plan: MessagePlan,
    constants: Constants,
    source: jax.Array,
    target: jax.Array,
    log_envelope: jax.Array | None,
) -> Saved:
    """The forward pass; the arguments are those of `edge_attention`."""
    message, radial, edges = constants
    ends = rows_at_edges((source, edges.senders), (target, edges.receivers))
    aligned = rotate_rows(plan.message, ends, edges.matrices)
    weights = radial.kernel.T @ radial.basis.T
    products = tuple(
        tuple(
            _no_product(plan, index, m, edges)
            if product is None or kernel is None
            else _multiply(product, kernel, aligned, weights)
            for m, (product, kernel) in enumerate(zip(orders, kernels, strict=True))
        )
        for index, (orders, kernels) in enumerate(zip(plan.products, message.kernels, strict=True))
    )
    scalars, gates, scores = split_scalars(plan, products[0][0][0] + message.bias[:, None])
    hidden = _hidden(plan, products, scaled_silu(scalars), gate_values(gates))
    values = _values(plan, message, hidden)
    softmax, strength = _softmax(plan, message, scores, edges, log_envelope, source.shape[0])
    factors = softmax if strength is None else softmax * strength
    weighted = [
        tuple(None if x is None else scale_heads(x[None], factors)[0] for x in components)
        for components in values
    ]
    rotated = rotate_back(plan.values, weighted, edges.matrices)
    totals = sum_rows_to_nodes(rotated, edges.receivers, source.shape[0])
    return Saved(aligned, weights, products, values, softmax, strength, totals)


def _no_product(
    plan: MessagePlan, index: int, order: int, edges: EdgeArrays
) -> tuple[jax.Array, ...]:
    dtype = edges.matrices[0].dtype if edges.matrices else float
    zeros = jnp.zeros((plan.message[index].mul, len(edges.senders)), dtype)
    return (zeros,) if order == 0 else (zeros, zeros)


def _multiply(
    product: OrderProduct, kernel: jax.Array, aligned: list[jax.Array], weights: jax.Array
) -> tuple[jax.Array, ...]:
    """One order of one irrep of the first product."""
    return tuple(
        kernel.T
        @ jnp.concatenate(
            [
                signed(of_pairs(aligned[factor.segment][component], weights[factor.weights]), sign)
                for factor in product.factors
                for component, sign in [factor.sides[side]]
            ]
        )
        for side in range(product.num_sides)
    )


def of_pairs(rows: jax.Array, shared: jax.Array) -> jax.Array:
    """Multiplies rows `[n, E]` by what edges share, `[n, E / 2]`, or do not, `[n, E]`."""
    split = rows.reshape(len(rows), -1, shared.shape[-1])
    return (split * shared[:, None]).reshape(rows.shape)


def signed(x: jax.Array, sign: int) -> jax.Array:
    """`x` or `-x`."""
    return x if sign > 0 else -x


def split_scalars(plan: MessagePlan, rows: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Scalars, gates and scores before their activations."""
    scalars, gates = num_gates(plan)
    return rows[:scalars], rows[scalars : scalars + gates], rows[scalars + gates :]


def gate_values(gates: jax.Array) -> jax.Array:
    """How far gates are open."""
    return scaled_sigmoid(gates)


def gate_slices(plan: MessagePlan) -> list[slice | None]:
    """The gates of each segment; `None` for the even scalars."""
    slices: list[slice | None] = []
    start = 0
    for mul, ir in plan.message:
        if ir == e3nn.Irrep("0e"):
            slices.append(None)
            continue
        slices.append(slice(start, start + mul))
        start += mul
    return slices


def _hidden(
    plan: MessagePlan,
    products: Products,
    activated: jax.Array,
    gates: jax.Array,
) -> list[jax.Array]:
    """The gated message, one `[rows, E]` for each order that the values read."""
    orders = []
    for m in range(min(plan.message.lmax, plan.values.lmax) + 1):
        parts = []
        for side in range(1 if m == 0 else 2):
            for gate, segment, (_, ir) in zip(
                gate_slices(plan), products, plan.message, strict=True
            ):
                if ir.l >= m:
                    parts.append(activated if gate is None else segment[m][side] * gates[gate])
        orders.append(jnp.concatenate(parts))
    return orders


def _values(
    plan: MessagePlan, message: FoldedMessage, hidden: list[jax.Array]
) -> tuple[tuple[jax.Array | None, ...], ...]:
    """Of each segment of the values its components in the frame of the edge."""
    components: list[list[jax.Array | None]] = [[None] * ir.dim for _, ir in plan.values]
    for m, (kernel, rows) in enumerate(zip(message.value_kernels, hidden, strict=True)):
        product, start = kernel.T @ rows, 0
        for sign in (0,) if m == 0 else (-1, 1):
            for index, (mul, ir) in enumerate(plan.values):
                if ir.l >= m:
                    components[index][ir.l + sign * m] = product[start : start + mul]
                    start += mul
    for index, (_, ir) in enumerate(plan.values):
        scalars = components[index][0]
        if ir == e3nn.Irrep("0e") and scalars is not None:
            components[index][0] = scalars + message.value_bias[:, None]
    return tuple(map(tuple, components))


def _softmax(
    plan: MessagePlan,
    message: FoldedMessage,
    scores: jax.Array,
    edges: EdgeArrays,
    log_envelope: jax.Array | None,
    num_nodes: int,
) -> tuple[jax.Array, jax.Array | None]:
    """Attention `[heads, E]` of each receiver's edges, and the envelope `[1, E]`."""
    weighted = (scaled_smooth_leaky_relu(scores) * message.alpha[:, None]).reshape(
        plan.num_heads, -1, scores.shape[-1]
    )
    logits = sum_rows(jnp.swapaxes(weighted, 0, 1))
    strength = None
    if log_envelope is not None:
        logits = logits + log_envelope
        strength = jnp.exp(log_envelope)[None]
    masked = jnp.where(edges.valid, logits, -jnp.inf).T
    highest = jax.ops.segment_max(masked, edges.receivers, num_nodes)
    highest = gather_to_edges(jnp.where(jnp.isneginf(highest), 0, highest), edges.receivers)
    weights = jnp.where(
        edges.valid[:, None], jnp.exp(jnp.where(edges.valid[:, None], masked - highest, 0)), 0
    )
    sums = jax.ops.segment_sum(weights, edges.receivers, num_nodes)
    inverse = 1 / (jnp.where(sums > 0, sums, 1) + 1e-16)
    return (weights * gather_to_edges(inverse, edges.receivers)).T, strength


def scale_heads(x: jax.Array, factors: jax.Array) -> jax.Array:
    """Multiplies `[2l+1, heads * channels, E]` by one factor `[heads, E]` per head."""
    heads = factors.shape[0]
    split = x.reshape(x.shape[0], heads, -1, x.shape[-1])
    return (split * factors[None, :, None]).reshape(x.shape)

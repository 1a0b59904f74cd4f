"""The reverse pass of `edge_attention`, by hand."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np

from equiformer_jax.inference.dynamics.attention_forward import (
    Constants,
    Saved,
    gate_slices,
    gate_values,
    of_pairs,
    scale_heads,
    signed,
    split_scalars,
)
from equiformer_jax.inference.dynamics.folded_message import (
    FoldedMessage,
    MessagePlan,
    OrderProduct,
)
from equiformer_jax.inference.dynamics.rows import (
    add_all,
    first_rows,
    rotate_back,
    rotate_rows,
    rows_at_edges,
    sum_rows,
    sum_rows_to_nodes,
    torque,
    write_rows,
)
from equiformer_jax.ops.activations import (
    SIGMOID_SCALE,
    SILU_SCALE,
    SMOOTH_LEAKY_RELU_SCALE,
)
from equiformer_jax.ops.segment import gather_to_edges

_LEAKY_SLOPE = 0.2


def gradients_of_attention(
    plan: MessagePlan, residuals: tuple[Constants, Saved], cotangent: jax.Array
) -> tuple[None, jax.Array, jax.Array, jax.Array, jax.Array, jax.Array | None]:
    """The reverse pass.

    Args:
      plan: layout of the message.
      residuals: the constants, and what the forward pass saved.
      cotangent: `[N, D']`, of the result.

    Returns:
      Cotangents of the arguments of `edge_attention` but the plan.
    """
    (message, radial, edges), saved = residuals
    at_edges = rows_at_edges((cotangent, edges.receivers))
    aligned = rotate_rows(plan.values, at_edges, edges.matrices)

    # Attention: the sums that a softmax subtracts are products at the nodes.
    by_attention = _head_products(plan, aligned, saved.values)
    inner = _node_head_products(plan, saved.totals, cotangent)
    strength = 1 if saved.strength is None else saved.strength
    by_logits = saved.softmax * (
        by_attention * strength - gather_to_edges(inner, edges.receivers).T
    )
    by_envelope = None
    if saved.strength is not None:
        by_envelope = jnp.sum(by_logits + saved.softmax * strength * by_attention, axis=0)

    # Values and the second product.
    factors = saved.softmax * strength
    by_values = [scale_heads(x, factors) for x in aligned]
    turned = torque(by_values, saved.values, plan.values)
    by_hidden = _by_hidden(plan, message, by_values)

    # The gate.
    scalars, gates, scores = split_scalars(plan, saved.products[0][0][0] + message.bias[:, None])
    by_products = _by_products(plan, message, saved, by_hidden, by_logits, scalars, gates, scores)

    # The first product.
    slopes = radial.kernel.T @ radial.slopes.T
    by_rows: dict[tuple[int, int], list[jax.Array]] = {}
    by_distance = []
    for orders, kernels, cotangents in zip(
        plan.products, message.kernels, by_products, strict=True
    ):
        for product, kernel, given in zip(orders, kernels, cotangents, strict=True):
            if product is not None and kernel is not None and given is not None:
                by_terms = [kernel @ side for side in given]
                by_distance += _collect(product, by_terms, saved, slopes, by_rows)
    by_aligned = _components(plan, by_rows)
    turned = torque(by_aligned, saved.aligned, plan.message) - turned

    rotated = rotate_back(plan.message, by_aligned, edges.matrices)
    num_nodes = cotangent.shape[0]
    by_source = sum_rows_to_nodes(rotated, edges.senders, num_nodes)
    by_target = sum_rows_to_nodes(rotated, edges.receivers, num_nodes)
    return None, by_source, by_target, _sum_pieces(by_distance), turned, by_envelope


def _head_products(
    plan: MessagePlan, left: list[jax.Array], right: tuple[tuple[jax.Array | None, ...], ...]
) -> jax.Array:
    """Products over all components and the channels of each head, `[heads, E]`."""
    total = []
    for a, b in zip(left, right, strict=True):
        products = add_all([a[i] * x for i, x in enumerate(b) if x is not None])
        split = products.reshape(plan.num_heads, -1, products.shape[-1])
        total.append(sum_rows(jnp.swapaxes(split, 0, 1)))
    return add_all(total)


def _node_head_products(plan: MessagePlan, left: jax.Array, right: jax.Array) -> jax.Array:
    """The same at the nodes, `[N, heads]`."""
    product, total = left * right, []
    for start, (mul, ir) in zip(first_rows(plan.values), plan.values, strict=True):
        part = product[:, start : start + mul * ir.dim]
        total.append(part.reshape(len(part), ir.dim, plan.num_heads, -1).sum(axis=(1, 3)))
    return add_all(total)


def _by_hidden(
    plan: MessagePlan, message: FoldedMessage, by_values: list[jax.Array]
) -> list[jax.Array]:
    """Cotangents of the gated message, like `_hidden`."""
    found = []
    for m, kernel in enumerate(message.value_kernels):
        parts = [
            x[ir.l + sign * m]
            for sign in ((0,) if m == 0 else (-1, 1))
            for x, (_, ir) in zip(by_values, plan.values, strict=True)
            if ir.l >= m
        ]
        found.append(kernel @ (parts[0] if len(parts) == 1 else jnp.concatenate(parts)))
    return found


def _by_products(
    plan: MessagePlan,
    message: FoldedMessage,
    saved: Saved,
    by_hidden: list[jax.Array],
    by_logits: jax.Array,
    scalars: jax.Array,
    gates: jax.Array,
    scores: jax.Array,
) -> list[list[list[jax.Array] | None]]:
    """Cotangents of the first product, like `Products`; `None` where nobody reads it."""
    activated, by_gates = gate_values(gates), []
    given: list[list[list[jax.Array] | None]] = [[None] * (ir.l + 1) for _, ir in plan.message]
    by_activated = jnp.zeros_like(scalars)
    starts = [0] * len(by_hidden)
    pieces: dict[tuple[int, int], list[jax.Array]] = {}
    for m, rows in enumerate(by_hidden):
        for _ in range(1 if m == 0 else 2):
            for index, (mul, ir) in enumerate(plan.message):
                if ir.l >= m:
                    pieces.setdefault((index, m), []).append(rows[starts[m] : starts[m] + mul])
                    starts[m] += mul
    for index, gate in enumerate(gate_slices(plan)):
        if gate is None:
            by_activated = pieces[index, 0][0]
            continue
        terms = []
        for m in range(plan.message[index].ir.l + 1):
            if (index, m) not in pieces:
                continue
            given[index][m] = [x * activated[gate] for x in pieces[index, m]]
            products = saved.products[index][m]
            terms += [x * y for x, y in zip(pieces[index, m], products, strict=True)]
        by_gates.append(add_all(terms))
    sigmoid = jax.nn.sigmoid(scalars)
    by_scalars = by_activated * SILU_SCALE * sigmoid * (1 + scalars * (1 - sigmoid))
    opened = activated * (1 - activated / SIGMOID_SCALE)
    sigmoid = jax.nn.sigmoid(scores)
    slope = _LEAKY_SLOPE + (1 - _LEAKY_SLOPE) * sigmoid * (1 + scores * (1 - sigmoid))
    channels = scores.shape[0] // plan.num_heads
    by_scores = (
        jnp.repeat(by_logits, channels, axis=0)
        * (SMOOTH_LEAKY_RELU_SCALE * message.alpha)[:, None]
        * slope
    )
    parts = [by_scalars, *([jnp.concatenate(by_gates) * opened] if by_gates else []), by_scores]
    given[0][0] = [write_rows(parts)]
    return given


def _collect(
    product: OrderProduct,
    by_terms: list[jax.Array],
    saved: Saved,
    slopes: jax.Array,
    found: dict[tuple[int, int], list[jax.Array]],
) -> list[jax.Array]:
    """Adds what the products of one order give back to the components that they read.

    Returns:
      What they give to the distances, in pieces `[mul, E]`.
    """
    pieces = []
    for factor in product.factors:
        along = []
        for side, (component, sign) in zip(by_terms, factor.sides, strict=True):
            given = signed(side[factor.block], sign)
            found.setdefault((factor.segment, component), []).append(
                of_pairs(given, saved.weights[factor.weights])
            )
            along.append(given * saved.aligned[factor.segment][component])
        pieces.append(of_pairs(add_all(along), slopes[factor.weights]))
    return pieces


def _sum_pieces(pieces: list[jax.Array]) -> jax.Array:
    """The sum over all rows of all pieces, `[E]`; pieces of one size are added first."""
    by_size: dict[int, list[jax.Array]] = {}
    for piece in pieces:
        by_size.setdefault(len(piece), []).append(piece)
    return add_all([sum_rows(add_all(same)) for same in by_size.values()])


def _components(
    plan: MessagePlan, found: dict[tuple[int, int], list[jax.Array]]
) -> list[tuple[jax.Array | None, ...]]:
    keys = sorted(found)
    rows = write_rows([add_all(found[key]) for key in keys])
    starts = np.cumsum([0] + [plan.message[index].mul for index, _ in keys]).tolist()
    kept = {
        key: rows[start:stop]
        for key, (start, stop) in zip(keys, itertools.pairwise(starts), strict=True)
    }
    return [
        tuple(kept.get((index, component)) for component in range(ir.dim))
        for index, (_, ir) in enumerate(plan.message)
    ]

"""Attention over neighbors with a nonlinear message: values and a reverse pass written by hand.

The mathematics is that of `nn.message.NonlinearMessage` and `ops.attention.attend` (specification
section 6.1). Two things make its reverse pass lean. Forces need no gradient by parameters. And the
frame of an edge moves only with its direction, so what its Wigner matrices contribute is one torque
per edge, made of the aligned features and their cotangents, and no derivative of a matrix is ever
formed.
"""

from __future__ import annotations

import functools

import jax

from equiformer_jax.inference.dynamics.attention_forward import (
    Constants,
    Saved,
    attend_over_edges,
)
from equiformer_jax.inference.dynamics.attention_reverse import gradients_of_attention
from equiformer_jax.inference.dynamics.folded_message import MessagePlan


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def edge_attention(
    plan: MessagePlan,
    constants: Constants,
    source: jax.Array,
    target: jax.Array,
    distance: jax.Array,
    turn: jax.Array,
    log_envelope: jax.Array | None,
) -> jax.Array:
    """What every node gathers from its neighbors.

    Args:
      plan: layout of the message.
      constants: parameters, radial functions and edges.
      source: `[N, D]`, what nodes give as senders.
      target: `[N, D]`, what they give as receivers.
      distance: `[E]`; only its derivative is of interest, the values are in the radial functions.
      turn: `[2, E]` zeros, turns of the frame of each edge about its first and third axis, by which
        one can differentiate.
      log_envelope: `[E]`, logarithms of factors that vanish at the cutoff, or `None`.

    Returns:
      `[N, D']`, segments of `plan.values` as `concatenate_components` has them.
    """
    del distance, turn
    return attend_over_edges(plan, constants, source, target, log_envelope).totals


def _forward_and_save(
    plan: MessagePlan,
    constants: Constants,
    source: jax.Array,
    target: jax.Array,
    distance: jax.Array,
    turn: jax.Array,
    log_envelope: jax.Array | None,
) -> tuple[jax.Array, tuple[Constants, Saved]]:
    saved = attend_over_edges(plan, constants, source, target, log_envelope)
    return saved.totals, (constants, saved)


edge_attention.defvjp(_forward_and_save, gradients_of_attention)

"""Errors of predictions as sums and counts over the rows that count."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp

from equiformer_jax.training.objectives.means import Mean, masked_mean, rows

# (predicted [n, ...], target [n, ...], mask [n] bool) -> sum and count.
ErrorFunction = Callable[[jax.Array, jax.Array, jax.Array], Mean]


def _difference(predicted: jax.Array, target: jax.Array, mask: jax.Array) -> jax.Array:
    """`predicted - target` with zeros in padding, which also keeps its gradient clean."""
    return jnp.where(rows(mask, predicted), predicted - target, 0)


def _absolute(values: jax.Array) -> jax.Array:
    """`|x|` with gradient zero at zero, as the published training has it; `jnp.abs` has one."""
    return values * jnp.sign(values)


def l1_error(predicted: jax.Array, target: jax.Array, mask: jax.Array) -> Mean:
    """Absolute errors of all components: `sum_i |p_i - t_i|` over the rows that count.

    Args:
      predicted: `[n, ...]`.
      target: `[n, ...]`.
      mask: `[n]` bool.
    """
    return masked_mean(_absolute(_difference(predicted, target, mask)), mask)


def l2_error(predicted: jax.Array, target: jax.Array, mask: jax.Array) -> Mean:
    """Norms of the row errors, "L2MAE": `sum_i |p_i - t_i|_2` (SPEC §12.3).

    Rows of one number have their absolute value as their norm. The norm has no gradient at zero; an
    exact prediction counts as one with gradient zero, as it does in the published training.

    Args:
      predicted: `[n]` or `[n, ...]`.
      target: likewise.
      mask: `[n]` bool.
    """
    difference = _difference(predicted, target, mask)
    square = jnp.sum(difference.reshape(len(mask), -1) ** 2, axis=-1)
    positive = square > 0
    norm = jnp.where(positive, jnp.sqrt(jnp.where(positive, square, 1.0)), 0.0)
    return masked_mean(norm, mask)


def mse_error(predicted: jax.Array, target: jax.Array, mask: jax.Array) -> Mean:
    """Squared errors of all components: `sum_i (p_i - t_i)^2`; arguments as in `l1_error`."""
    return masked_mean(_difference(predicted, target, mask) ** 2, mask)


def huber_error(
    predicted: jax.Array, target: jax.Array, mask: jax.Array, delta: float = 1.0
) -> Mean:
    """Huber's errors of all components: `x^2 / 2` up to `delta`, `delta (|x| - delta / 2)` beyond.

    Args:
      predicted: `[n, ...]`.
      target: `[n, ...]`.
      mask: `[n]` bool.
      delta: where the parabola goes over into lines, in the unit of the predictions.
    """
    size = _absolute(_difference(predicted, target, mask))
    inner = jnp.minimum(size, delta)
    return masked_mean(inner * (size - 0.5 * inner), mask)


def summed_l1_error(predicted: jax.Array, target: jax.Array, mask: jax.Array) -> Mean:
    """Absolute errors summed over the components of a row and counted by rows (SPEC §12.4).

    Its mean is that of `l1_error` times the number of components. Arguments as in `l1_error`.
    """
    error = _absolute(_difference(predicted, target, mask))
    return masked_mean(jnp.sum(error.reshape(len(mask), -1), axis=-1), mask)


def share_within(
    predicted: jax.Array, target: jax.Array, mask: jax.Array, threshold: float
) -> Mean:
    """The share of numbers that are off by at most `threshold`; arguments as in `l1_error`."""
    close = jnp.abs(_difference(predicted, target, mask)) <= threshold
    return masked_mean(close.astype(predicted.dtype), mask)


ERRORS: Mapping[str, ErrorFunction] = {
    "l1": l1_error,
    "l2": l2_error,
    "mse": mse_error,
    "huber": huber_error,
}


def error_function(name: str, huber_delta: float) -> ErrorFunction:
    """The error of that name in `ERRORS`, Huber's with its `delta`."""
    if name == "huber":
        return functools.partial(huber_error, delta=huber_delta)
    return ERRORS[name]

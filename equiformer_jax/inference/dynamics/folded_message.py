"""A nonlinear message with everything folded that is the same for all edges.

The parameters of both tensor products, their coupling coefficients and the linear maps that follow
become one matrix per irrep and order (first product) and one per order (second product). They are
made once, in float64.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import e3nn_jax as e3nn
import jax
import jax.numpy as jnp
import numpy as np

from equiformer_jax.ops.irreps import gate_input, multiplicity, repeat_irreps
from equiformer_jax.ops.paths import DepthwisePaths, Path, depthwise_paths
from equiformer_jax.ops.tensor_product import Run, path_runs, shared_depthwise_linear
from equiformer_jax.ops.wigner import aligned_coefficient


class Factor(NamedTuple):
    """One path: a component of a segment times radial weights.

    Attributes:
      segment: which one.
      sides: for -m and +m the component that is read and its sign.
      block: its rows among those of the product.
      weights: its radial weights.
    """

    segment: int
    sides: tuple[tuple[int, int], ...]
    block: slice
    weights: slice


@dataclasses.dataclass(frozen=True, eq=False)
class OrderProduct:
    """All products that end in one irrep at one order m of the edge frames.

    Attributes:
      order: m.
      factors: side by side.
    """

    order: int
    factors: tuple[Factor, ...]

    @property
    def num_sides(self) -> int:
        """1 for m = 0, else 2: -m and +m."""
        return 1 if self.order == 0 else 2


@dataclasses.dataclass(frozen=True, eq=False)
class MessagePlan:
    """What is known of a message without its parameters.

    Attributes:
      message: irreps of what both ends of an edge give.
      values: irreps of the values that somebody reads.
      num_heads: number of attention heads.
      products: of each irrep of `message` its orders 0 to l; `None` where no path leads to it.
    """

    message: e3nn.Irreps
    values: e3nn.Irreps
    num_heads: int
    products: tuple[tuple[OrderProduct | None, ...], ...]


class FoldedMessage(NamedTuple):
    """The parameters of a message, folded.

    Attributes:
      kernels: like `MessagePlan.products`, `[n, channels]`; those of the even scalars end in
        scalars, gates and scores.
      bias: `[scalars + gates + scores]`.
      alpha: `[heads * channels]`, from activated scores to logits.
      value_kernels: of each order m, from the aligned hidden features to the values, `[in, out]`;
        both are sorted by (-m, +m), then segment, then channel.
      value_bias: `[channels]` of the even scalars of the values.
    """

    kernels: tuple[tuple[jax.Array | None, ...], ...]
    bias: jax.Array
    alpha: jax.Array
    value_kernels: tuple[jax.Array, ...]
    value_bias: jax.Array


def plan_message(
    message: str, sh: str, head: str, num_heads: int, alive: Sequence[str]
) -> MessagePlan:
    """Lays out a message.

    Args:
      message: irreps of what both ends of an edge give.
      sh: harmonics.
      head: irreps of one head.
      num_heads: number of heads.
      alive: irreps of the values that somebody reads.
    """
    irreps = e3nn.Irreps(message)
    paths = depthwise_paths(message, sh, message)
    groups = {str(ir): index for index, (_, ir) in enumerate(paths.irreps_out)}
    products = tuple(
        tuple(_order_product(paths, groups[str(ir)], m) for m in range(ir.l + 1))
        for _, ir in irreps
    )
    values = [(mul, ir) for mul, ir in repeat_irreps(head, num_heads) if str(ir) in alive]
    return MessagePlan(irreps, e3nn.Irreps(values), num_heads, products)


def _active_runs(group: Sequence[Path], m: int) -> list[Run]:
    return [run for run in path_runs(group) if run.reaches(m)]


def _order_product(paths: DepthwisePaths, group: int, m: int) -> OrderProduct | None:
    runs = _active_runs(paths.groups[group], m)
    if not runs:
        return None
    first = runs[0].start
    begin = paths.group_slices[group].start
    factors = []
    for run in runs:
        degree = paths.irreps_in[run.segment].ir.l
        # An odd path reads its mirror image: -m takes minus the +m component, +m the -m component.
        sides = ((degree, 1),) if m == 0 else ((degree - m, 1), (degree + m, 1))
        if not run.is_even:
            sides = ((degree + m, -1), (degree - m, 1))
        for index in range(len(run.paths)):
            start = run.start + index * run.mul
            block = slice(start - first, start - first + run.mul)
            weights = slice(begin + start, begin + start + run.mul)
            factors.append(Factor(run.segment, sides, block, weights))
    return OrderProduct(m, tuple(factors))


def fold_message(
    plan: MessagePlan, sh: str, head: str, parameters: Mapping[str, Any]
) -> FoldedMessage:
    """Folds the parameters of one message.

    Args:
      plan: its layout.
      sh: harmonics.
      head: irreps of one head.
      parameters: those of a `NonlinearMessage`, float64.

    Returns:
      NumPy arrays in float64.
    """
    message = str(plan.message)
    paths = depthwise_paths(message, sh, message)
    to_gate, to_scores = parameters["message_linear"], parameters["alpha_linear"]
    kernels: list[Any] = []
    for (_, ir), products in zip(plan.message, plan.products, strict=True):
        group = [str(each) for _, each in paths.irreps_out].index(str(ir))
        kernel = to_gate[str(ir)]
        if str(ir) == "0e":
            kernel = np.concatenate([kernel, to_scores["0e"]], axis=1)
        kernels.append(
            tuple(
                None if product is None else _scaled(kernel, paths.groups[group], product.order)
                for product in products
            )
        )
    alpha: Any = np.reshape(parameters["logits"]["alpha_dot"], -1)
    bias: Any = np.concatenate([to_gate["bias"], to_scores["bias"]])
    return FoldedMessage(
        kernels=tuple(kernels),
        bias=bias,
        alpha=alpha,
        value_kernels=_value_kernels(plan, sh, head, parameters),
        value_bias=parameters["value_linear"]["bias"],
    )


def _scaled(kernel: np.ndarray, group: Sequence[Path], m: int) -> np.ndarray:
    """The rows of a kernel that order m uses, times their coupling coefficients."""
    runs = _active_runs(group, m)
    coefficients = [
        np.full(run.mul, aligned_coefficient(*path.degrees, m))
        for run in runs
        for path in run.paths
    ]
    return kernel[runs[0].start : runs[-1].stop] * np.concatenate(coefficients)[:, None]


def _value_kernels(
    plan: MessagePlan, sh: str, head: str, parameters: Mapping[str, Any]
) -> tuple[Any, ...]:
    """The second product and its linear map as matrices: what they make of unit vectors."""
    values = repeat_irreps(head, plan.num_heads)
    paths = depthwise_paths(str(plan.message), sh, str(values))
    wanted = {str(ir) for _, ir in plan.values}
    kernels = [
        parameters["value_linear"].get(str(ir)) if str(ir) in wanted else None
        for _, ir in paths.irreps_out
    ]
    with jax.enable_x64(True):
        weight = jnp.asarray(parameters["tensor_product_weight"])
        alive = [None if kernel is None else jnp.asarray(kernel) for kernel in kernels]
        return tuple(
            _matrix_of_order(plan, paths, weight, alive, m)
            for m in range(min(plan.message.lmax, plan.values.lmax) + 1)
        )


def _matrix_of_order(
    plan: MessagePlan,
    paths: DepthwisePaths,
    weight: jax.Array,
    kernels: Sequence[jax.Array | None],
    order: int,
) -> np.ndarray:
    channels = [
        sum(mul for mul, ir in plan.message if ir.l >= m) for m in range(plan.message.lmax + 1)
    ]
    pairs = [1 if m == 0 else 2 for m in range(len(channels))]
    units = pairs[order] * channels[order]
    aligned = tuple(
        jnp.eye(units).reshape(units, pair, width)
        if m == order
        else jnp.zeros((units, pair, width))
        for m, (pair, width) in enumerate(zip(pairs, channels, strict=True))
    )
    product = shared_depthwise_linear(aligned, weight, kernels, paths)
    by_irrep = {str(ir): orders for orders, (_, ir) in zip(product, paths.irreps_out, strict=True)}
    parts = [
        alive_orders[order]
        for _, ir in plan.values
        if ir.l >= order and (alive_orders := by_irrep[str(ir)]) is not None
    ]
    return np.asarray(jnp.concatenate(parts, axis=-1).reshape(units, -1))


def num_gates(plan: MessagePlan) -> tuple[int, int]:
    """How many scalars and how many gates the first product gives before the scores."""
    scalars = multiplicity(plan.message, "0e")
    return scalars, gate_input(plan.message)[0].mul - scalars

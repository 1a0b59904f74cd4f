"""Depthwise tensor products with spherical harmonics in edge-aligned frames, then a linear map.

*Aligned features* are a tuple with one array per order m = 0, 1, ..., lmax: `[E, 1, C]` for m = 0
and `[E, 2, C]` for the pair (-m, +m), where C runs over the channels of all segments of degree at
least m, in order. Every product of a path is then elementwise, and the linear map over paths is one
matrix product per output irrep and order. With weights shared by all edges even the elementwise
part folds into the matrix.

This is the published tensor product (specification sections 2.3 and 2.5), not an approximation of
it.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import e3nn_jax as e3nn
import jax
import jax.numpy as jnp
import numpy as np

from equiformer_jax.ops.irreps import Features
from equiformer_jax.ops.paths import DepthwisePaths, Path
from equiformer_jax.ops.wigner import aligned_coefficient

AlignedFeatures = tuple[jax.Array, ...]


class Run(NamedTuple):
    """Neighboring paths of a group that read the same segment in the same way.

    Attributes:
      segment: input segment.
      is_even: orders are kept (even) or mirrored (odd).
      start: first row within the group.
      mul: channels of each path.
      paths: the paths.
    """

    segment: int
    is_even: bool
    start: int
    mul: int
    paths: tuple[Path, ...]

    @property
    def stop(self) -> int:
        """One past the last row within the group."""
        return self.start + self.mul * len(self.paths)

    def reaches(self, m: int) -> bool:
        """Whether the run contributes to order m: mirrored paths vanish at m = 0."""
        return self.paths[0].degrees[0] >= m and (self.is_even or m > 0)


def path_runs(group: Sequence[Path]) -> tuple[Run, ...]:
    """Splits a group of paths into runs."""
    runs, start = [], 0
    for (segment, is_even), members in itertools.groupby(group, lambda p: (p.segment, p.is_even)):
        paths = tuple(members)
        runs.append(Run(segment, is_even, start, paths[0].mul, paths))
        start = runs[-1].stop
    return tuple(runs)


def channel_slices(irreps: e3nn.Irreps, m: int) -> dict[int, slice]:
    """Where each segment of degree at least m lies on the channel axis of order m."""
    slices, start = {}, 0
    for index, (mul, ir) in enumerate(irreps):
        if ir.l >= m:
            slices[index] = slice(start, start + mul)
            start += mul
    return slices


def rotate(
    features: Sequence[jax.Array], irreps: e3nn.Irreps, matrices: Sequence[jax.Array]
) -> tuple[jax.Array, ...]:
    """Turns features `[E, 2l+1, mul]` into the frame of their edge."""
    return tuple(
        x if ir.l == 0 else jnp.einsum("eij,eju->eiu", matrices[ir.l - 1].astype(x.dtype), x)
        for x, (_, ir) in zip(features, irreps, strict=True)
    )


def align(
    features: Sequence[jax.Array], irreps: e3nn.Irreps, matrices: Sequence[jax.Array]
) -> AlignedFeatures:
    """Rotates features `[E, 2l+1, mul]` into the edge frames and sorts them by order.

    Args:
      features: one array per segment of `irreps`.
      irreps: canonical irreps.
      matrices: Wigner matrices of degrees 1 and up.
    """
    rotated = rotate(features, irreps, matrices)
    orders = []
    for m in range(irreps.lmax + 1):
        parts = [
            x[:, ir.l - m : ir.l + m + 1 : max(1, 2 * m)]
            for x, (_, ir) in zip(rotated, irreps, strict=True)
            if ir.l >= m
        ]
        orders.append(jnp.concatenate(parts, axis=-1))
    return tuple(orders)


def unalign(
    orders: Sequence[Sequence[jax.Array] | None], irreps: e3nn.Irreps, matrices: Sequence[jax.Array]
) -> Features:
    """Sorts the orders of each segment back into components and rotates out of the edge frames.

    Args:
      orders: per segment its orders 0 to l, `[E, 1 or 2, mul]`, or `None` if dead.
      irreps: the segments.
      matrices: Wigner matrices of degrees 1 and up.

    Returns:
      Per segment `[E, 2l+1, mul]`, or `None`.
    """
    features: list[jax.Array | None] = []
    for parts, (_, ir) in zip(orders, irreps, strict=True):
        if parts is None:
            features.append(None)
        elif ir.l == 0:
            features.append(parts[0])
        else:
            below = [parts[m][:, :1] for m in range(ir.l, 0, -1)]
            above = [parts[m][:, 1:] for m in range(1, ir.l + 1)]
            stacked = jnp.concatenate([*below, parts[0], *above], axis=1)
            matrix = matrices[ir.l - 1].astype(stacked.dtype)
            features.append(jnp.einsum("eji,eju->eiu", matrix, stacked))
    return tuple(features)


def mirror(order: jax.Array) -> jax.Array:
    """What odd paths read: (-m, +m) becomes (minus the +m component, the -m component)."""
    return jnp.stack([-order[:, 1], order[:, 0]], axis=1)


def depthwise_linear(
    aligned: AlignedFeatures,
    weights: jax.Array,
    kernels: Sequence[jax.Array | None],
    paths: DepthwisePaths,
) -> tuple[tuple[jax.Array, ...] | None, ...]:
    """Depthwise tensor product with weights of each edge, followed by a linear map over its paths.

    Args:
      aligned: features of `paths.irreps_in` in the edge frames.
      weights: `[E, paths.weight_numel]`.
      kernels: per irrep of the product `[rows, channels_out]`, or `None` where it is not wanted.
      paths: the products.

    Returns:
      Per irrep of the product its orders, `[E, 1, channels_out]` and `[E, 2, channels_out]`, or
      `None`.
    """
    mirrored = tuple(mirror(order) for order in aligned[1:])  # from m = 1 on
    slices = [channel_slices(paths.irreps_in, m) for m in range(len(aligned))]
    outputs: list[tuple[jax.Array, ...] | None] = []
    for group, (_, ir), group_slice, kernel in zip(
        paths.groups, paths.irreps_out, paths.group_slices, kernels, strict=True
    ):
        if kernel is None:
            outputs.append(None)
            continue
        runs, group_weights, orders = path_runs(group), weights[:, group_slice], []
        for m in range(ir.l + 1):
            active = [run for run in runs if run.reaches(m)]
            if not active:  # for example 1 x 1 -> 1, which has no order 0
                pair = 1 if m == 0 else 2
                orders.append(jnp.zeros((weights.shape[0], pair, kernel.shape[1]), kernel.dtype))
                continue
            products = []
            for run in active:
                source = aligned[m] if run.is_even else mirrored[m - 1]
                products.append(_product(source[..., slices[m][run.segment]], group_weights, run))
            scaled = kernel[active[0].start : active[-1].stop] * _coefficients(
                active, m, kernel.dtype
            )
            orders.append(jnp.concatenate(products, axis=-1) @ scaled)
        outputs.append(tuple(orders))
    return tuple(outputs)


def _product(source: jax.Array, weights: jax.Array, run: Run) -> jax.Array:
    """All paths of a run: `[E, orders, len(paths) * mul]`."""
    edges, pair, _ = source.shape
    block = weights[:, run.start : run.stop].reshape(edges, 1, len(run.paths), run.mul)
    return (source[:, :, None, :] * block).reshape(edges, pair, -1)


def _coefficients(runs: Sequence[Run], m: int, dtype: jnp.dtype) -> jax.Array:
    """Coupling coefficients of neighboring runs as a column `[rows, 1]`."""
    rows = [
        np.full(run.mul, aligned_coefficient(*path.degrees, m))
        for run in runs
        for path in run.paths
    ]
    return jnp.asarray(np.concatenate(rows)[:, None], dtype)


def shared_depthwise_linear(
    aligned: AlignedFeatures,
    weight: jax.Array,
    kernels: Sequence[jax.Array | None],
    paths: DepthwisePaths,
) -> tuple[tuple[jax.Array, ...] | None, ...]:
    """`depthwise_linear` with one weight vector `[paths.weight_numel]` for all edges.

    Product and linear map are one matrix per order then, applied to the pair (-m, +m) at once.
    """
    alive = {index: kernel for index, kernel in enumerate(kernels) if kernel is not None}
    folded = {
        index: _fold(weight[paths.group_slices[index]], kernel, paths.groups[index])
        for index, kernel in alive.items()
    }
    orders: dict[int, list[jax.Array]] = {index: [] for index in alive}
    for m in range(max((paths.irreps_out[index].ir.l for index in alive), default=-1) + 1):
        wanted = [index for index in alive if paths.irreps_out[index].ir.l >= m]
        sources = channel_slices(paths.irreps_in, m) if m < len(aligned) else {}
        if not sources:
            _append_zeros(orders, wanted, alive, weight.dtype, aligned[0].shape[0])
            continue
        matrix = _order_matrix(
            [folded[i] for i in wanted], [alive[i].shape[1] for i in wanted], paths, sources, m
        )
        pair = 1 if m == 0 else 2
        flat = aligned[m].reshape(aligned[m].shape[0], -1) @ matrix
        product = flat.reshape(flat.shape[0], pair, -1)
        start = 0
        for index in wanted:
            width = alive[index].shape[1]
            orders[index].append(product[..., start : start + width])
            start += width
    return tuple(tuple(orders[i]) if i in orders else None for i in range(len(kernels)))


def _append_zeros(
    orders: dict[int, list[jax.Array]],
    wanted: Sequence[int],
    kernels: Mapping[int, jax.Array],
    dtype: jnp.dtype,
    edges: int,
) -> None:
    """Adds one order above 0 that is zero to the wanted irreps."""
    for index in wanted:
        orders[index].append(jnp.zeros((edges, 2, kernels[index].shape[1]), dtype))


def _fold(
    weight: jax.Array, kernel: jax.Array, group: Sequence[Path]
) -> dict[tuple[int, bool], jax.Array]:
    """The matrices `[orders, mul, channels_out]` of all orders, summed over paths.

    There is one for each (segment, is_even) that the group reads.
    """
    rows, folded = weight[:, None] * kernel, {}
    for run in path_runs(group):
        top = min(run.paths[0].degrees[0], run.paths[0].degrees[2])
        table = [
            [aligned_coefficient(*path.degrees, m) for path in run.paths] for m in range(top + 1)
        ]
        block = rows[run.start : run.stop].reshape(len(run.paths), run.mul, -1)
        folded[run.segment, run.is_even] = jnp.einsum(
            "mp,puw->muw", jnp.asarray(table, rows.dtype), block
        )
    return folded


def _order_matrix(
    folded: Sequence[dict[tuple[int, bool], jax.Array]],
    widths: Sequence[int],
    paths: DepthwisePaths,
    sources: dict[int, slice],
    m: int,
) -> jax.Array:
    """The matrix of order m: `[C, W]` for m = 0, else `[2 C, 2 W]` acting on (-m, +m) at once."""

    def assemble(is_even: bool) -> jax.Array:
        columns = []
        for blocks, width in zip(folded, widths, strict=True):
            dtype = next(iter(blocks.values())).dtype
            rows = [
                blocks[segment, is_even][m]
                if (segment, is_even) in blocks
                else jnp.zeros((paths.irreps_in[segment].mul, width), dtype)
                for segment in sources
            ]
            columns.append(jnp.concatenate(rows, axis=0))
        return jnp.concatenate(columns, axis=1)

    straight = assemble(True)
    if m == 0:
        return straight
    crossed = assemble(False)
    return jnp.concatenate(
        [
            jnp.concatenate([straight, crossed], axis=1),
            jnp.concatenate([-crossed, straight], axis=1),
        ],
        axis=0,
    )


def select_segments(
    product: Sequence[Sequence[jax.Array] | None], irreps_product: e3nn.Irreps, irreps: e3nn.Irreps
) -> tuple[Sequence[jax.Array] | None, ...]:
    """Picks the orders of each segment of `irreps` from a product.

    The product may hold more than these segments, or have them in another order.

    Raises:
      ValueError: the product has no such irrep.
    """
    by_irrep = {str(ir): orders for orders, (_, ir) in zip(product, irreps_product, strict=True)}
    missing = [str(ir) for _, ir in irreps if str(ir) not in by_irrep]
    if missing:
        raise ValueError(
            f"the tensor product has {irreps_product}, which lacks {', '.join(missing)}"
        )
    return tuple(by_irrep[str(ir)] for _, ir in irreps)


def gate_orders(
    segments: Sequence[Sequence[jax.Array]], irreps: e3nn.Irreps, gates: jax.Array
) -> AlignedFeatures:
    """Multiplies everything but even scalars by its gate and aligns the result.

    The segments of each order are laid side by side. Gates are invariant, so they act in the edge
    frame as they would outside.

    Args:
      segments: per segment its orders 0 to l, `[E, 1 or 2, mul]`.
      irreps: the segments.
      gates: `[E, 1, copies of everything but even scalars]`.
    """
    factors, start = [], 0
    for mul, ir in irreps:
        is_scalar = ir == e3nn.Irrep("0e")
        factors.append(None if is_scalar else gates[..., start : start + mul])
        start += 0 if is_scalar else mul
    aligned = []
    for m in range(irreps.lmax + 1):
        parts = [
            orders[m] if factor is None else orders[m] * factor
            for orders, factor, (_, ir) in zip(segments, factors, irreps, strict=True)
            if ir.l >= m
        ]
        aligned.append(jnp.concatenate(parts, axis=-1))
    return tuple(aligned)

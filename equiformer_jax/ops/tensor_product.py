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

from equiformer_jax.ops.irreps import Features, split_last_axis
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


def segments_of_order(irreps: e3nn.Irreps, m: int) -> list[int]:
    """The segments of degree at least m, which lie in this order on the channel axis of order m."""
    return [index for index, (_, ir) in enumerate(irreps) if ir.l >= m]


def split_segments(order: jax.Array, irreps: e3nn.Irreps, m: int) -> dict[int, jax.Array]:
    """The channels of order m, segment by segment."""
    segments = segments_of_order(irreps, m)
    pieces = split_last_axis(order, [irreps[index].mul for index in segments])
    return dict(zip(segments, pieces, strict=True))


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
    rows = [jax.lax.split(x, (1,) * x.shape[1], axis=1) for x in rotated]

    def component(m: int) -> jax.Array:
        """Component m of all segments that have it."""
        parts = [row[ir.l + m] for row, (_, ir) in zip(rows, irreps, strict=True) if ir.l >= abs(m)]
        return jnp.concatenate(parts, axis=-1)

    pairs = (
        jnp.concatenate([component(-m), component(m)], axis=1) for m in range(1, irreps.lmax + 1)
    )
    return (component(0), *pairs)


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
            pairs = [jax.lax.split(pair, (1, 1), axis=1) for pair in parts[1:]]
            below, above = [low for low, _ in pairs], [high for _, high in pairs]
            stacked = jnp.concatenate([*reversed(below), parts[0], *above], axis=1)
            matrix = matrices[ir.l - 1].astype(stacked.dtype)
            features.append(jnp.einsum("eji,eju->eiu", matrix, stacked))
    return tuple(features)


def mirror(order: jax.Array) -> jax.Array:
    """What odd paths read: (-m, +m) becomes (minus the +m component, the -m component)."""
    below, above = jax.lax.split(order, (1, 1), axis=1)
    return jnp.concatenate([-above, below], axis=1)


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
    straight = [split_segments(order, paths.irreps_in, m) for m, order in enumerate(aligned)]
    mirrored = [  # from m = 1 on
        split_segments(mirror(order), paths.irreps_in, m) for m, order in enumerate(aligned) if m
    ]
    runs_of_groups = [path_runs(group) for group in paths.groups]
    widths = [run.stop - run.start for runs in runs_of_groups for run in runs]
    weights_of_runs = iter(split_last_axis(weights, widths))
    outputs: list[tuple[jax.Array, ...] | None] = []
    for runs, (_, ir), kernel in zip(runs_of_groups, paths.irreps_out, kernels, strict=True):
        own_weights = {run: next(weights_of_runs) for run in runs}
        if kernel is None:
            outputs.append(None)
            continue
        orders = []
        for m in range(ir.l + 1):
            active = [run for run in runs if run.reaches(m)]
            if not active:  # for example 1 x 1 -> 1, which has no order 0
                pair = 1 if m == 0 else 2
                orders.append(jnp.zeros((weights.shape[0], pair, kernel.shape[1]), kernel.dtype))
                continue
            products = []
            for run in active:
                sources = straight[m] if run.is_even else mirrored[m - 1]
                products.append(_product(sources[run.segment], own_weights[run], run))
            scaled = kernel[active[0].start : active[-1].stop] * _coefficients(
                active, m, kernel.dtype
            )
            orders.append(jnp.concatenate(products, axis=-1) @ scaled)
        outputs.append(tuple(orders))
    return tuple(outputs)


def _product(source: jax.Array, weights: jax.Array, run: Run) -> jax.Array:
    """All paths of a run: `[E, orders, len(paths) * mul]`."""
    edges, pair, _ = source.shape
    block = weights.reshape(edges, 1, len(run.paths), run.mul)
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
        sources = segments_of_order(paths.irreps_in, m) if m < len(aligned) else []
        if not sources:
            _append_zeros(orders, wanted, alive, weight.dtype, aligned[0].shape[0])
            continue
        matrix = _order_matrix(
            [folded[i] for i in wanted], [alive[i].shape[1] for i in wanted], paths, sources, m
        )
        pair = 1 if m == 0 else 2
        flat = aligned[m].reshape(aligned[m].shape[0], -1) @ matrix
        product = flat.reshape(flat.shape[0], pair, -1)
        pieces = split_last_axis(product, [alive[index].shape[1] for index in wanted])
        for index, piece in zip(wanted, pieces, strict=True):
            orders[index].append(piece)
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
    sources: Sequence[int],
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
    gated = [mul for mul, ir in irreps if ir != e3nn.Irrep("0e")]
    pieces = iter(split_last_axis(gates, gated))
    factors = [None if ir == e3nn.Irrep("0e") else next(pieces) for _, ir in irreps]
    aligned = []
    for m in range(irreps.lmax + 1):
        parts = [
            orders[m] if factor is None else orders[m] * factor
            for orders, factor, (_, ir) in zip(segments, factors, irreps, strict=True)
            if ir.l >= m
        ]
        aligned.append(jnp.concatenate(parts, axis=-1))
    return tuple(aligned)

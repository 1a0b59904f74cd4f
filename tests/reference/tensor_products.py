"""Linear maps and depthwise tensor products in their dense Clebsch-Gordan form (SPEC §2)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from tests.reference.irreps import (
    Irreps,
    Segment,
    join,
    simplify,
    sort_even_first,
    split,
)
from tests.reference.parameters import Scope
from tests.reference.wigner import wigner_3j


def linear(
    scope: Scope, rows: np.ndarray, irreps_in: Irreps, irreps_out: Irreps, bias: bool = True
) -> np.ndarray:
    """A matrix per pair of segments of equal irrep, and a bias on even scalars (SPEC §2.1, §2.2).

    The flat weight is ordered by input segment, then by output segment.
    """
    pairs = [
        (a, c)
        for a, segment_in in enumerate(irreps_in)
        for c, segment_out in enumerate(irreps_out)
        if segment_in.irrep == segment_out.irrep
    ]
    blocks = _weight_blocks(scope, pairs, irreps_in, irreps_out)
    inputs = split(rows, irreps_in)
    outputs: list[np.ndarray] = [
        np.zeros((*rows.shape[:-1], segment.multiplicity, segment.dimension))
        for segment in irreps_out
    ]
    for (a, c), weight in blocks:
        outputs[c] = outputs[c] + np.swapaxes(np.swapaxes(inputs[a], -1, -2) @ weight, -1, -2)
    result = join(outputs)
    return _with_bias(scope, result, simplify(irreps_out)) if bias else result


def _weight_blocks(
    scope: Scope, pairs: list[tuple[int, int]], irreps_in: Irreps, irreps_out: Irreps
) -> Iterator[tuple[tuple[int, int], np.ndarray]]:
    shapes = [(irreps_in[a].multiplicity, irreps_out[c].multiplicity) for a, c in pairs]
    total = sum(math.prod(shape) for shape in shapes)
    fan_in = total / max(1, sum(columns for _, columns in shapes))
    flat = scope.array("tp.weight", (total,), spread=1 / math.sqrt(max(fan_in, 1)))
    start = 0
    for pair, shape in zip(pairs, shapes, strict=True):
        yield pair, flat[start : start + math.prod(shape)].reshape(shape)
        start += math.prod(shape)


def _with_bias(scope: Scope, rows: np.ndarray, irreps: Irreps) -> np.ndarray:
    parts = split(rows, irreps)
    index = 0
    for position, segment in enumerate(irreps):
        if segment.is_scalar:
            vector = scope.array(f"bias.{index}", (segment.multiplicity,))
            parts[position] = parts[position] + vector[:, None]
            index += 1
    return join(parts)


class Path(NamedTuple):
    """One term of a depthwise product: segments of node and edge, and the segment that it makes."""

    node: int
    edge: int
    output: Segment


def depthwise_paths(irreps: Irreps, irreps_edge: Irreps, irreps_filter: Irreps) -> list[Path]:
    """All paths in the order of their weights: by node segment, edge segment, output degree.

    A product is kept if its irrep occurs in `irreps_filter` or is an even scalar (SPEC §2.3).
    """
    wanted = {segment.irrep for segment in irreps_filter} | {(0, 1)}
    paths = []
    for a, node in enumerate(irreps):
        for s, edge in enumerate(irreps_edge):
            parity = node.parity * edge.parity
            for degree in range(abs(node.degree - edge.degree), node.degree + edge.degree + 1):
                if (degree, parity) in wanted:
                    paths.append(Path(a, s, Segment(node.multiplicity, degree, parity)))
    return paths


def depthwise_irreps(irreps: Irreps, irreps_edge: Irreps, irreps_filter: Irreps) -> Irreps:
    """Output irreps of the depthwise product, sorted, one segment per path."""
    paths = depthwise_paths(irreps, irreps_edge, irreps_filter)
    return sort_even_first(tuple(path.output for path in paths))[0]


def depthwise_weight_count(irreps: Irreps, irreps_edge: Irreps, irreps_filter: Irreps) -> int:
    """Length of the weight vector: one entry per path and channel."""
    paths = depthwise_paths(irreps, irreps_edge, irreps_filter)
    return sum(path.output.multiplicity for path in paths)


def depthwise_tensor_product(
    rows: np.ndarray,
    harmonics: np.ndarray,
    weights: np.ndarray,
    irreps: Irreps,
    irreps_edge: Irreps,
    irreps_filter: Irreps,
) -> np.ndarray:
    """`sqrt(2l+1) w[u] C[i,j,k] x[u,i] y[j]` per path, in the order of `depthwise_irreps`.

    This is the dense form of SPEC §2.3.

    Args:
      rows: `[E, row]` features per edge.
      harmonics: `[E, ...]` edge features, every multiplicity 1.
      weights: `[E, W]`, or `[W]` where edges share them.
      irreps: of `rows`.
      irreps_edge: of `harmonics`.
      irreps_filter: which outputs to keep.

    Returns:
      `[E, row of depthwise_irreps]`.
    """
    paths = depthwise_paths(irreps, irreps_edge, irreps_filter)
    inputs, edges = split(rows, irreps), split(harmonics, irreps_edge)
    outputs, start = [], 0
    for path in paths:
        symbol = wigner_3j(
            irreps[path.node].degree, irreps_edge[path.edge].degree, path.output.degree
        )
        matrix = np.tensordot(edges[path.edge][..., 0, :], symbol, axes=(-1, 1))
        channel_weight = weights[..., start : start + path.output.multiplicity, None]
        start += path.output.multiplicity
        scale = math.sqrt(path.output.dimension)
        outputs.append(scale * channel_weight * (inputs[path.node] @ matrix))
    _, new_position = sort_even_first(tuple(path.output for path in paths))
    ordered = [outputs[0]] * len(outputs)
    for old, new in enumerate(new_position):
        ordered[new] = outputs[old]
    return join(ordered)

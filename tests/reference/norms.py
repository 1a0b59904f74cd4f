"""Equivariant normalization, every kind of the release that has a fixture (SPEC §3.3, §3.4)."""

from __future__ import annotations

import numpy as np

from tests.reference.irreps import Irreps, Segment, copies, join, scalar_copies, split
from tests.reference.parameters import Scope

LAYER_KINDS = ("layer", "fast_layer", "layerV3", "layerV4")
GRAPH_KINDS = ("instance", "graph")


def equivariant_norm(
    scope: Scope, kind: str, rows: np.ndarray, irreps: Irreps, graph_index: np.ndarray
) -> np.ndarray:
    """Divide each segment by its root mean square; center scalars; scale and shift per channel.

    Args:
      scope: `affine_weight`, `affine_bias` and, for some kinds, `mean_shift`.
      kind: one of `LAYER_KINDS` (statistics of each node) or of `GRAPH_KINDS` (of each graph and
        channel).
      rows: `[N, row]`.
      irreps: of `rows`.
      graph_index: `[N]`, the graph of each node.

    Returns:
      `[N, row]`.
    """
    if kind not in LAYER_KINDS + GRAPH_KINDS:
        raise ValueError(f"norm_layer {kind!r}: expected one of {LAYER_KINDS + GRAPH_KINDS}")
    shift = _mean_shift(scope, kind, irreps)
    weight = scope.array("affine_weight", (copies(irreps),), center=1.0)
    bias = scope.array("affine_bias", (scalar_copies(irreps),))
    parts, channel, scalar = [], 0, 0
    for segment, features in zip(irreps, split(rows, irreps), strict=True):
        channels = slice(channel, channel + segment.multiplicity)
        channel += segment.multiplicity
        if segment.is_scalar or kind in ("layerV3", "layerV4"):
            features = features - shift[channels, None] * _mean(kind, features, graph_index)
        square = (features * features).mean(-1, keepdims=True)
        features = features / np.sqrt(_mean(kind, square, graph_index) + 1e-5)
        features = features * weight[channels, None]
        if segment.is_scalar:
            features = features + bias[scalar : scalar + segment.multiplicity, None]
            scalar += segment.multiplicity
        parts.append(features)
    return join(parts)


def _mean(kind: str, features: np.ndarray, graph_index: np.ndarray) -> np.ndarray:
    """Mean of `[N, mul, d]` over the channels of a node, or over the nodes of a graph."""
    if kind in LAYER_KINDS:
        return features.mean(-2, keepdims=True)
    count = np.bincount(graph_index)
    total = np.zeros((len(count), *features.shape[1:]), features.dtype)
    np.add.at(total, graph_index, features)
    return (total / count[:, None, None])[graph_index]


def _mean_shift(scope: Scope, kind: str, irreps: Irreps) -> np.ndarray:
    """How much of the mean each channel loses, `[all channels]`: 1 unless it is learned."""
    if kind == "layerV4":
        return scope.array("mean_shift", (1, copies(irreps), 1), center=0.5)[0, :, 0]
    if kind != "graph":
        return np.ones(copies(irreps))
    learned = scope.array("mean_shift", (scalar_copies(irreps),), center=1.0)
    return np.concatenate(_per_segment(learned, irreps))


def _per_segment(scalars: np.ndarray, irreps: Irreps) -> list[np.ndarray]:
    parts, start = [], 0
    for segment in irreps:
        parts.append(_take(scalars, segment, start))
        start += segment.multiplicity if segment.is_scalar else 0
    return parts


def _take(scalars: np.ndarray, segment: Segment, start: int) -> np.ndarray:
    if segment.is_scalar:
        return scalars[start : start + segment.multiplicity]
    return np.zeros(segment.multiplicity)

"""The textbook formulation of the messages, to measure against: no edge-aligned frames.

Every path contracts features, harmonics and a dense table of Clebsch-Gordan coefficients, gives all
components of its product, and the linear map over paths comes afterwards, with shared weights, too.
It computes what the model computes. All else is the model's own, what is saved elsewhere included
(edge-degree embedding, maps before gathering, softmax at the nodes): a comparison sees the messages
alone.

Features are segments `[E, 2l+1, mul]` here, followed by the harmonics of the edges, `[E, 2l+1]`
from degree 0 on; each irrep of a product is followed by them in the same way.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from unittest import mock

import e3nn_jax as e3nn
import jax
import jax.numpy as jnp

from equiformer_jax.nn import attention, message
from equiformer_jax.ops.frames import aligned_harmonics
from equiformer_jax.ops.irreps import Features, split_last_axis
from equiformer_jax.ops.paths import DepthwisePaths, Path
from equiformer_jax.ops.wigner import wigner_3j

_Arrays = tuple[jax.Array, ...]


@contextlib.contextmanager
def dense_formulation() -> Iterator[None]:
    """What is traced inside has messages in the textbook formulation.

    What jax has traced before is forgotten on both ends: it does not see that functions changed.
    """
    with contextlib.ExitStack() as stack:
        stack.callback(jax.clear_caches)
        stack.enter_context(mock.patch.object(attention, "align", _with_harmonics))
        for name, function in {
            "depthwise_linear": _depthwise_linear,
            "shared_depthwise_linear": _depthwise_linear,
            "gate_orders": _gate,
            "unalign": _without_harmonics,
        }.items():
            stack.enter_context(mock.patch.object(message, name, function))
        jax.clear_caches()
        yield


def _with_harmonics(
    features: Sequence[jax.Array], irreps: e3nn.Irreps, matrices: Sequence[jax.Array]
) -> _Arrays:
    constant = jnp.ones((features[0].shape[0], 1), features[0].dtype)
    harmonics = aligned_harmonics(tuple(matrices))
    return (*features, constant, *(h.astype(constant.dtype) for h in harmonics))


def _depthwise_linear(
    features: _Arrays,
    weights: jax.Array,
    kernels: Sequence[jax.Array | None],
    paths: DepthwisePaths,
) -> tuple[_Arrays | None, ...]:
    """All products, then the linear map.

    Args:
      features: segments of `paths.irreps_in`, then harmonics.
      weights: `[E, paths.weight_numel]` or `[paths.weight_numel]`.
      kernels: per irrep of the product `[rows, channels_out]`, or `None` where it is not wanted.
      paths: the products.
    """
    count = len(paths.irreps_in)
    segments, harmonics = features[:count], features[count:]
    pieces = iter(split_last_axis(weights, [p.mul for group in paths.groups for p in group]))
    outputs: list[_Arrays | None] = []
    for group, kernel in zip(paths.groups, kernels, strict=True):
        products = [_product(segments, harmonics, next(pieces), path) for path in group]
        if kernel is None:
            outputs.append(None)
        else:
            outputs.append((jnp.concatenate(products, axis=-1) @ kernel, *harmonics))
    return tuple(outputs)


def _product(
    segments: Sequence[jax.Array], harmonics: Sequence[jax.Array], weights: jax.Array, path: Path
) -> jax.Array:
    """One path: `[E, 2l+1, mul]`."""
    _, l_sh, l_out = path.degrees
    source = segments[path.segment]
    table = (2 * l_out + 1) ** 0.5 * wigner_3j(*path.degrees)
    coupling = jnp.einsum("ijk,ej->eki", jnp.asarray(table, source.dtype), harmonics[l_sh])
    return jnp.einsum("eki,eiu->eku", coupling, source) * weights[..., None, :]


def _gate(segments: Sequence[_Arrays], irreps: e3nn.Irreps, gates: jax.Array) -> _Arrays:
    gated = [mul for mul, ir in irreps if ir != e3nn.Irrep("0e")]
    pieces = iter(split_last_axis(gates, gated))
    features = [
        parts[0] if ir == e3nn.Irrep("0e") else parts[0] * next(pieces)
        for parts, (_, ir) in zip(segments, irreps, strict=True)
    ]
    return (*features, *segments[-1][1:])


def _without_harmonics(
    segments: Sequence[_Arrays | None], irreps: e3nn.Irreps, matrices: Sequence[jax.Array]
) -> Features:
    del irreps, matrices  # nothing was turned
    return tuple(None if parts is None else parts[0] for parts in segments)

"""Irreps bookkeeping, and the layout of features inside the network.

A *row* is the flat layout of e3nn: segment after segment, each `[mul, 2l+1]` with the component
fastest. Inside the network features are a tuple with one array per segment, `[..., 2l+1, mul]`:
channels last, which is what matrix units want. A segment that nobody will read may be `None`: it is
dead and never computed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias, TypeVar

import e3nn_jax as e3nn
import jax
import jax.numpy as jnp

AliveFeatures: TypeAlias = tuple[jax.Array, ...]
Features: TypeAlias = tuple[jax.Array | None, ...]

_Segment = TypeVar("_Segment")


def alive_segment(segments: Sequence[_Segment | None], index: int) -> _Segment:
    """One segment that the caller knows to be alive.

    Args:
      segments: one entry per segment, arrays or whatever is kept for each, `None` where dead.
      index: which one.

    Raises:
      ValueError: the segment is dead.
    """
    segment = segments[index]
    if segment is None:
        raise ValueError(
            f"segment {index} of {len(segments)} is dead (None), but its values are needed here"
        )
    return segment


def alive(segments: Sequence[_Segment | None]) -> tuple[_Segment, ...]:
    """All segments, where the caller knows that every one is alive.

    Raises:
      ValueError: a segment is dead; the message says which.
    """
    return tuple(alive_segment(segments, index) for index in range(len(segments)))


def canonical_irreps(irreps: e3nn.Irreps | str, name: str = "irreps") -> e3nn.Irreps:
    """Merges neighbors and checks the order that all features of this package have.

    Args:
      irreps: for example `"128x0e+64x1e"`.
      name: what to call them in an error.

    Returns:
      The simplified irreps: every irrep once, ascending in degree, even parity before odd.

    Raises:
      ValueError: they cannot be parsed, are empty, repeat an irrep or are out of order.
    """
    try:
        parsed = e3nn.Irreps(irreps).simplify()
    except Exception as error:
        raise ValueError(
            f"{name}={irreps!r} is not a list of irreps such as '128x0e+64x1e': {error}"
        ) from error
    order = [(ir.l, -ir.p) for _, ir in parsed]
    if not order:
        raise ValueError(f"{name}={irreps!r} is empty")
    if order != sorted(set(order)):
        raise ValueError(
            f"{name}={irreps!r}: expected every irrep once, in ascending degree, even parity "
            f"first, as in '{sort_even_first(parsed)}'"
        )
    return parsed


def sort_even_first(irreps: e3nn.Irreps | str) -> e3nn.Irreps:
    """Sorts by degree, even parity first, and merges (specification section 1.3)."""
    return e3nn.Irreps(sorted(e3nn.Irreps(irreps), key=lambda s: (s.ir.l, -s.ir.p))).simplify()


def has_irrep(irreps: e3nn.Irreps, ir: str) -> bool:
    """Whether `ir`, such as `"0e"`, occurs."""
    return any(segment.ir == e3nn.Irrep(ir) for segment in irreps)


def multiplicity(irreps: e3nn.Irreps, ir: str | e3nn.Irrep) -> int:
    """The number of copies of `ir`, 0 if it does not occur."""
    return sum(mul for mul, candidate in irreps if candidate == e3nn.Irrep(ir))


def repeat_irreps(irreps: e3nn.Irreps | str, times: int) -> e3nn.Irreps:
    """Multiplies every multiplicity, as for `times` attention heads side by side."""
    return e3nn.Irreps([(mul * times, ir) for mul, ir in e3nn.Irreps(irreps)])


def split_gate(irreps: e3nn.Irreps) -> tuple[int, int, e3nn.Irreps]:
    """What a gate that ends in `irreps` reads (specification section 3.2).

    Returns:
      The number of even scalars, the number of gates, and the gated irreps (everything but the
      even scalars).
    """
    gated = e3nn.Irreps([(mul, ir) for mul, ir in irreps if ir != e3nn.Irrep("0e")])
    return multiplicity(irreps, "0e"), gated.num_irreps, gated


def gate_input(irreps: e3nn.Irreps) -> e3nn.Irreps:
    """What a gate needs to end in `irreps`: scalars and gates merged, then the gated irreps."""
    scalars, gates, gated = split_gate(irreps)
    return (e3nn.Irreps([(scalars + gates, "0e")]) + gated).simplify()


def to_features(
    row: jax.Array | e3nn.IrrepsArray, irreps: e3nn.Irreps | str | None = None
) -> Features:
    """Splits a row `[..., dim]` (or an `IrrepsArray`) into one `[..., 2l+1, mul]` per segment."""
    if isinstance(row, e3nn.IrrepsArray):
        row, irreps = row.array, row.irreps
    features, start = [], 0
    for mul, ir in e3nn.Irreps(irreps):
        block = row[..., start : start + mul * ir.dim].reshape(*row.shape[:-1], mul, ir.dim)
        features.append(jnp.swapaxes(block, -1, -2))
        start += mul * ir.dim
    return tuple(features)


def to_irreps_array(features: Features, irreps: e3nn.Irreps | str) -> e3nn.IrrepsArray:
    """The inverse of `to_features`."""
    rows = [jnp.swapaxes(x, -1, -2).reshape(*x.shape[:-2], -1) for x in features if x is not None]
    return e3nn.IrrepsArray(irreps, jnp.concatenate(rows, axis=-1))


def concatenate_components(features: Sequence[jax.Array]) -> jax.Array:
    """Lays `[..., 2l+1, mul]` arrays side by side, `[..., sum (2l+1) mul]`.

    One gather, or one scatter, then does for all segments.
    """
    return jnp.concatenate([x.reshape(*x.shape[:-2], -1) for x in features], axis=-1)


def split_components(flat: jax.Array, irreps: e3nn.Irreps) -> tuple[jax.Array, ...]:
    """The inverse of `concatenate_components`."""
    pieces = split_last_axis(flat, [mul * ir.dim for mul, ir in irreps])
    return tuple(
        piece.reshape(*flat.shape[:-1], ir.dim, mul)
        for piece, (mul, ir) in zip(pieces, irreps, strict=True)
    )


def split_last_axis(x: jax.Array, widths: Sequence[int]) -> list[jax.Array]:
    """Neighboring pieces of the given widths, which add up to the last axis.

    The derivative of pieces that are cut out together is one concatenation; cut out one by one,
    each would be a sum with a padded array, and differentiating that again makes more of them.
    """
    return list(jax.lax.split(x, tuple(widths), axis=x.ndim - 1)) if widths else []

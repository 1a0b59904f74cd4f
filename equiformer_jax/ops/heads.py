"""Attention heads and the channel axis (specification sections 6.1 and 6.2).

Channels are head-major: channel `head * channels + c`. One head's features are a slice of that
axis.
"""

from __future__ import annotations

import e3nn_jax as e3nn
import jax
import jax.numpy as jnp

from equiformer_jax.ops.irreps import Features


def split_heads(x: jax.Array, num_heads: int) -> jax.Array:
    """`[..., heads * channels]` to `[..., heads, channels]`."""
    return x.reshape(*x.shape[:-1], num_heads, -1)


def library_order_to_heads(features: Features, irreps: e3nn.Irreps) -> Features:
    """Reads features sorted odd before even as if they were sorted even before odd.

    The official dot-product attention does so: its linear map ends in the library's order of
    irreps, its heads are cut in the other. With one parity per degree this is the identity. With
    both, channels of the two parities mix and inversion symmetry is lost, in the official model
    and, to be exact, in this one.

    Args:
      features: segments `[..., 2l+1, mul]` of `irreps`.
      irreps: canonical, even before odd.
    """
    return _regroup(features, irreps, read_odd_first=True)


def heads_to_library_order(features: Features, irreps: e3nn.Irreps) -> Features:
    """The inverse of `library_order_to_heads`."""
    return _regroup(features, irreps, read_odd_first=False)


def _regroup(features: Features, irreps: e3nn.Irreps, read_odd_first: bool) -> Features:
    outputs = list(features)
    for index in range(len(irreps) - 1):
        (even_mul, even_ir), (odd_mul, odd_ir) = irreps[index], irreps[index + 1]
        even, odd = features[index], features[index + 1]
        if even_ir.l != odd_ir.l or even is None or odd is None:
            continue
        if read_odd_first:
            row = jnp.concatenate([odd, even], axis=-1)
            outputs[index], outputs[index + 1] = row[..., :even_mul], row[..., even_mul:]
        else:
            row = jnp.concatenate([even, odd], axis=-1)
            outputs[index + 1], outputs[index] = row[..., :odd_mul], row[..., odd_mul:]
    return tuple(outputs)

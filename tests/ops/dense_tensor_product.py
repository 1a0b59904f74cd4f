"""The depthwise tensor product as it is defined, from Clebsch-Gordan tensors: the oracle.

Loops, weights and rows follow the specification (section 2.3), not this package's order; nothing
here knows of edge-aligned frames.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import e3nn_jax as e3nn
import jax
import jax.numpy as jnp
import numpy as np

from equiformer_jax.ops.irreps import sort_even_first
from equiformer_jax.ops.wigner import wigner_3j

Rows = dict[str, jax.Array]


def dense_product(
    features: Sequence[jax.Array],
    vectors: jax.Array,
    weights: jax.Array,
    irreps: tuple[str, str, str],
) -> Rows:
    """`sqrt(2l+1) w[u] sum_ij C_ijk x[u, i] Y[j]` for every product.

    Args:
      features: segments `[E, 2l+1, mul]` of `irreps[0]`.
      vectors: `[E, 3]`, of any length above zero.
      weights: `[E, W]` or `[W]`, in the order of the loops.
      irreps: of the features, of the harmonics, and those that are wanted.

    Returns:
      Per output irrep `[E, 2l+1, rows]`, rows in the order of the loops.
    """
    source, sh, wanted = (e3nn.Irreps(text) for text in irreps)
    kept = {ir for _, ir in wanted} | {e3nn.Irrep("0e")}
    harmonics = e3nn.spherical_harmonics(sh, vectors, normalize=True, normalization="component")
    found: dict[str, list[jax.Array]] = {}
    start = 0
    for x, (mul, ir_in) in zip(features, source, strict=True):
        for (_, ir_sh), y in zip(sh, harmonics.chunks, strict=True):
            outputs = [ir for ir in sorted(ir_in * ir_sh, key=lambda ir: ir.l) if ir in kept]
            if not outputs:
                continue
            tensors = [ir.dim**0.5 * wigner_3j(ir_in.l, ir_sh.l, ir.l) for ir in outputs]
            products = jnp.einsum("ijk,eiu,ej->eku", np.concatenate(tensors, -1), x, y[:, 0])
            for ir, tensor in zip(outputs, tensors, strict=True):
                product, products = jnp.split(products, [tensor.shape[-1]], axis=1)
                weighted = product * weights[..., None, start : start + mul]
                found.setdefault(str(ir), []).append(weighted)
                start += mul
    return {ir: jnp.concatenate(parts, axis=-1) for ir, parts in found.items()}


def dense_linear(rows: Rows, kernels: Mapping[str, jax.Array]) -> tuple[jax.Array, ...]:
    """A linear map `[rows, channels]` per irrep: segments `[E, 2l+1, channels]`, even first."""
    order = sort_even_first("+".join(f"1x{ir}" for ir in rows))
    return tuple(rows[str(ir)] @ kernels[str(ir)] for _, ir in order)

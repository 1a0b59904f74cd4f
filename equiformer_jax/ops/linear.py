"""Equivariant linear maps: one matrix per irrep."""

from __future__ import annotations

from typing import NamedTuple

import e3nn_jax as e3nn
import jax
import jax.numpy as jnp

from equiformer_jax.ops.irreps import Features


class LinearParameters(NamedTuple):
    """Parameters of an equivariant linear map.

    Specification section 2.1, with a constant second input.

    Attributes:
      kernels: per output segment `[mul_in, mul_out]`, or `None` where the input has no such irrep.
      bias: `[number of even scalars out]` or `None`.
    """

    kernels: tuple[jax.Array | None, ...]
    bias: jax.Array | None

    @property
    def scalar_bias(self) -> jax.Array:
        """The bias, for a map that is known to have one.

        Raises:
          ValueError: it has none.
        """
        if self.bias is None:
            raise ValueError("this linear map has no bias: none was asked for, or no even scalars")
        return self.bias


def linear(
    parameters: LinearParameters,
    features: Features,
    irreps_in: e3nn.Irreps,
    irreps_out: e3nn.Irreps,
) -> Features:
    """Maps `[..., 2l+1, mul_in]` to `[..., 2l+1, mul_out]`, irrep by irrep.

    A segment that is `None` in the input is `None` in the output; an irrep that the input lacks is
    zero.
    """
    by_irrep = {str(ir): x for x, (_, ir) in zip(features, irreps_in, strict=True)}
    example = next(x for x in features if x is not None)
    outputs: list[jax.Array | None] = []
    for kernel, (mul, ir) in zip(parameters.kernels, irreps_out, strict=True):
        if kernel is None:
            y = jnp.zeros((*example.shape[:-2], ir.dim, mul), example.dtype)
        elif (x := by_irrep[str(ir)]) is None:
            outputs.append(None)
            continue
        else:
            y = x @ kernel.astype(example.dtype)
        if parameters.bias is not None and ir == e3nn.Irrep("0e"):
            y = y + parameters.bias.astype(y.dtype)
        outputs.append(y)
    return tuple(outputs)

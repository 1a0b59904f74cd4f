"""Equivariant linear layers."""

from __future__ import annotations

import e3nn_jax as e3nn
import flax.linen as nn
import jax
import jax.numpy as jnp

from equiformer_jax.ops.irreps import Features, alive_segment, multiplicity
from equiformer_jax.ops.linear import LinearParameters, linear


def declare_linear(
    module: nn.Module,
    sources: e3nn.Irreps,
    targets: e3nn.Irreps,
    use_bias: bool = True,
    kernel_scale: float = 1.0,
) -> LinearParameters:
    """Declares the parameters of an equivariant linear map in a module (specification section 2.1).

    One kernel per irrep that occurs on both sides, named by the irrep, drawn from N(0, 1 / fan-in);
    one bias for the even scalars, zero at the start.
    """
    kernels = []
    for mul, ir in targets:
        fan_in = multiplicity(sources, ir)
        init = nn.initializers.normal(kernel_scale / max(fan_in, 1) ** 0.5)
        kernels.append(module.param(str(ir), init, (fan_in, mul)) if fan_in else None)
    scalars = multiplicity(targets, "0e")
    has_bias = use_bias and scalars > 0
    bias = module.param("bias", nn.initializers.zeros, (scalars,)) if has_bias else None
    return LinearParameters(tuple(kernels), bias)


class LinearWeights(nn.Module):
    """The parameters of an equivariant linear map, for callers that fuse it with something else.

    Attributes:
      irreps_in: input irreps.
      irreps_out: output irreps.
      use_bias: whether even scalars of the output have a bias.
      kernel_scale: factor on the initial standard deviation.
    """

    irreps_in: str
    irreps_out: str
    use_bias: bool = True
    kernel_scale: float = 1.0

    @nn.compact
    def __call__(self) -> LinearParameters:
        """Returns the kernels in the order of `irreps_out`, and the bias."""
        sources, targets = e3nn.Irreps(self.irreps_in), e3nn.Irreps(self.irreps_out)
        return declare_linear(self, sources, targets, self.use_bias, self.kernel_scale)


class EquivariantLinear(nn.Module):
    """Equivariant linear map of features.

    It stands for the official `LinearRS` and for every product with constant node attributes.

    Attributes:
      irreps_in: input irreps.
      irreps_out: output irreps.
      use_bias: whether even scalars of the output have a bias.
    """

    irreps_in: str
    irreps_out: str
    use_bias: bool = True

    @nn.compact
    def __call__(self, features: Features) -> Features:
        """Maps segments `[..., 2l+1, mul]` of `irreps_in` to those of `irreps_out`."""
        sources, targets = e3nn.Irreps(self.irreps_in), e3nn.Irreps(self.irreps_out)
        parameters = declare_linear(self, sources, targets, self.use_bias)
        return linear(parameters, features, sources, targets)


class NodeEmbedding(nn.Module):
    """A learned vector of even scalars for each type of atom (specification section 5).

    Attributes:
      num_types: number of rows.
      irreps_out: irreps of the features; all but the even scalars stay zero.
    """

    num_types: int
    irreps_out: str

    @nn.compact
    def __call__(self, types: jax.Array) -> jax.Array:
        """Returns the scalars `[N, 1, mul]` for rows `[N]`; a row outside the table gives NaN."""
        scale = self.num_types**0.5  # the entries are N(0, 1), whatever the fan-in
        weights = LinearWeights(
            f"{self.num_types}x0e", self.irreps_out, kernel_scale=scale, name="table"
        )()
        # NumPy parameters cannot be indexed by a tracer.
        table = jnp.asarray(alive_segment(weights.kernels, 0) + weights.scalar_bias)
        inside = (types >= 0) & (types < self.num_types)
        return jnp.where(inside[:, None], table[jnp.where(inside, types, 0)], jnp.nan)[:, None, :]

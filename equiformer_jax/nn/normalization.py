"""Equivariant normalization layers."""

from __future__ import annotations

import e3nn_jax as e3nn
import flax.linen as nn
import jax

from equiformer_jax.ops.irreps import Features, multiplicity
from equiformer_jax.ops.normalization import graph_norm, layer_norm

KINDS = ("layer", "fast_layer", "instance", "graph", "layer_v3", "layer_v4")


class EquivariantNorm(nn.Module):
    """Normalizes features without breaking equivariance (specification sections 3.3 and 3.4).

    Attributes:
      irreps: irreps of the features.
      kind: `layer` and `fast_layer` (the same mathematics), `instance`, `graph`, or the official
        release's `layer_v3` (every degree centered) and `layer_v4` (centered by a learned
        fraction).
    """

    irreps: str
    kind: str = "layer"

    @nn.compact
    def __call__(self, features: Features, graph_index: jax.Array, num_graphs: int) -> Features:
        """Normalizes segments `[N, 2l+1, mul]` of nodes in graphs `graph_index` `[N]`."""
        if self.kind not in KINDS:
            raise ValueError(f"norm_layer is {self.kind!r}; expected one of {KINDS}")
        irreps = e3nn.Irreps(self.irreps)
        scalars = multiplicity(irreps, "0e")
        weight = self.param("affine_weight", nn.initializers.ones, (irreps.num_irreps,))
        bias = self.param("affine_bias", nn.initializers.zeros, (scalars,))
        if self.kind in ("layer", "fast_layer"):
            return layer_norm(features, irreps, weight, bias)
        if self.kind == "layer_v3":
            return layer_norm(features, irreps, weight, bias, center_all=True)
        if self.kind == "layer_v4":
            shift = self.param("mean_shift", _ones_for(scalars), (irreps.num_irreps,))
            return layer_norm(features, irreps, weight, bias, center_all=True, mean_shift=shift)
        shift = None
        if self.kind == "graph":
            shift = self.param("mean_shift", nn.initializers.ones, (scalars,))
        return graph_norm(features, irreps, weight, bias, graph_index, num_graphs, shift)


def _ones_for(scalars: int) -> nn.initializers.Initializer:
    """One for the even scalars, which come first, and zero for the rest."""

    def init(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        return jax.numpy.zeros(shape).at[:scalars].set(1)

    return init

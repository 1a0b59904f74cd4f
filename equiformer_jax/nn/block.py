"""The transformer block (specification section 6)."""

from __future__ import annotations

import e3nn_jax as e3nn
import flax.linen as nn
import jax

from equiformer_jax.nn.attention import AttentionSettings, GraphAttention
from equiformer_jax.nn.context import GraphContext
from equiformer_jax.nn.linear import EquivariantLinear
from equiformer_jax.nn.normalization import EquivariantNorm
from equiformer_jax.ops.activations import gate
from equiformer_jax.ops.dropout import drop_path, equivariant_dropout
from equiformer_jax.ops.irreps import Features, gate_input


class FeedForward(nn.Module):
    """Linear map, gate, linear map (section 6.3).

    Attributes:
      irreps_in: irreps of the node features.
      irreps_mid: irreps after the gate.
      irreps_out: irreps of the result.
      drop: rate of equivariant dropout of the result.
      deterministic: no dropout.
    """

    irreps_in: str
    irreps_mid: str
    irreps_out: str
    drop: float = 0.0
    deterministic: bool = True

    @nn.compact
    def __call__(self, features: Features) -> Features:
        """Maps segments `[N, 2l+1, mul]`."""
        gated = gate_input(e3nn.Irreps(self.irreps_mid))
        hidden = EquivariantLinear(self.irreps_in, str(gated), name="linear_1")(features)
        hidden = gate(hidden, e3nn.Irreps(self.irreps_mid))
        output = EquivariantLinear(self.irreps_mid, self.irreps_out, name="linear_2")(hidden)
        if self.drop and not self.deterministic:
            output = equivariant_dropout(
                self.make_rng("dropout"), output, e3nn.Irreps(self.irreps_out), self.drop
            )
        return output


class TransformerBlock(nn.Module):
    """Normalize, attend, add; normalize, feed forward, add.

    Attributes:
      attention: settings of the attention.
      irreps_in: irreps of the features, kept by the attention.
      irreps_mlp_mid: hidden irreps of the feed-forward network.
      irreps_out: irreps of the result.
      norm_layer: kind of normalization.
      drop_path_rate: stochastic depth.
      deterministic: no dropout.
    """

    attention: AttentionSettings
    irreps_in: str
    irreps_mlp_mid: str
    irreps_out: str
    norm_layer: str = "layer"
    drop_path_rate: float = 0.0
    deterministic: bool = True

    @nn.compact
    def __call__(self, features: Features, context: GraphContext) -> Features:
        """Maps segments `[N, 2l+1, mul]` of `irreps_in` to those of `irreps_out`."""
        graphs = (context.graph_index, context.num_graphs)
        alive = self._alive()
        normalized = EquivariantNorm(self.irreps_in, self.norm_layer, name="norm_1")(
            features, *graphs
        )
        attended = GraphAttention(
            self.attention,
            self.irreps_in,
            self.irreps_in,
            alive,
            self.deterministic,
            name="attention",
        )(normalized, context)
        features = _add(features, self._drop_path(attended, context))

        normalized = EquivariantNorm(self.irreps_in, self.norm_layer, name="norm_2")(
            features, *graphs
        )
        update = FeedForward(
            self.irreps_in,
            self.irreps_mlp_mid,
            self.irreps_out,
            self.attention.proj_drop,
            self.deterministic,
            name="feed_forward",
        )(normalized)
        if self.irreps_in != self.irreps_out:
            features = EquivariantLinear(self.irreps_in, self.irreps_out, name="shortcut")(features)
        return _add(features, self._drop_path(update, context))

    def _alive(self) -> tuple[str, ...]:
        """Irreps of the features after attention that the block's result depends on.

        With scalar outputs, as in the last block of most models, nothing of degree above 0 is read
        again.
        """
        outputs = {str(ir) for _, ir in e3nn.Irreps(self.irreps_out)} | {"0e"}
        return tuple(str(ir) for _, ir in e3nn.Irreps(self.irreps_in) if str(ir) in outputs)

    def _drop_path(self, features: Features, context: GraphContext) -> Features:
        if self.deterministic or not self.drop_path_rate:
            return features
        key = self.make_rng("dropout")
        return drop_path(
            key, features, self.drop_path_rate, context.graph_index, context.num_graphs
        )


def _add(left: Features, right: Features) -> Features:
    """Adds segments; a dead one stays dead."""

    def add(x: jax.Array | None, y: jax.Array | None) -> jax.Array | None:
        return None if x is None or y is None else x + y

    return tuple(add(x, y) for x, y in zip(left, right, strict=True))

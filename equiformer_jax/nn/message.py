"""The three messages of Equiformer: what an edge says, and how much attention it asks for.

Each module maps the aligned features of an edge to attention logits `[E, heads]` and to values,
segments `[E, 2l+1, heads * channels]` in the common frame.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TypeAlias

import e3nn_jax as e3nn
import flax.linen as nn
import jax
import jax.numpy as jnp

from equiformer_jax.nn.context import EdgeFrames
from equiformer_jax.nn.linear import LinearWeights
from equiformer_jax.nn.radial import RadialNetwork
from equiformer_jax.ops.activations import gate_factors
from equiformer_jax.ops.attention import dot_product_logits, mlp_attention_logits
from equiformer_jax.ops.heads import library_order_to_heads, split_heads
from equiformer_jax.ops.irreps import (
    AliveFeatures,
    Features,
    alive,
    alive_segment,
    gate_input,
    multiplicity,
    repeat_irreps,
    split_gate,
    split_last_axis,
)
from equiformer_jax.ops.linear import LinearParameters
from equiformer_jax.ops.paths import DepthwisePaths, depthwise_paths
from equiformer_jax.ops.tensor_product import (
    AlignedFeatures,
    depthwise_linear,
    gate_orders,
    select_segments,
    shared_depthwise_linear,
    unalign,
)


@dataclasses.dataclass(frozen=True)
class MessageIrreps:
    """Irreps that all messages know.

    Attributes:
      message: irreps of the aligned features.
      sh: harmonics of the edges.
      head: irreps of one head.
      num_heads: number of heads.
      alive: irreps of the values that reach something that is read.
    """

    message: str
    sh: str
    head: str
    num_heads: int
    alive: frozenset[str]

    @property
    def values(self) -> e3nn.Irreps:
        """All heads side by side."""
        return repeat_irreps(self.head, self.num_heads)

    @property
    def num_scores(self) -> int:
        """Scalars that the logits are made of: as many as the values have."""
        return multiplicity(self.values, "0e")


class NonlinearMessage(nn.Module):
    """Tensor product, gate, second tensor product (section 6.1).

    The scores are linear in the first product. Both products act on the same edge and gates are
    invariant: everything happens in the edge frame.

    Attributes:
      irreps: what all messages know.
      fc_neurons: hidden widths of the radial network.
    """

    irreps: MessageIrreps
    fc_neurons: tuple[int, ...]

    @nn.compact
    def __call__(self, aligned: AlignedFeatures, frames: EdgeFrames) -> tuple[jax.Array, Features]:
        """Maps aligned features of `irreps.message` to logits and values."""
        hidden, scores = self._first_product(aligned, frames)
        logits = _MlpLogits(self.irreps.num_heads, name="logits")(scores)
        return logits, self._second_product(hidden, frames)

    def _first_product(
        self, aligned: AlignedFeatures, frames: EdgeFrames
    ) -> tuple[AlignedFeatures, jax.Array]:
        irreps, dtype = self.irreps, aligned[0].dtype
        message = e3nn.Irreps(irreps.message)
        paths = depthwise_paths(irreps.message, irreps.sh, irreps.message)
        to_gate = LinearWeights(
            str(paths.irreps_out), str(gate_input(message)), name="message_linear"
        )()
        to_scores = LinearWeights(
            str(paths.irreps_out), f"{irreps.num_scores}x0e", name="alpha_linear"
        )()

        # Scores and gate input read the same scalars: one matrix for both.
        kernels = _kernels_of_product(to_gate, gate_input(message), paths, dtype)
        score_kernel = alive_segment(to_scores.kernels, 0).astype(dtype)
        kernels[0] = jnp.concatenate([alive_segment(kernels, 0), score_kernel], axis=1)
        weights = _radial_weights(self.fc_neurons, paths, frames, dtype)
        product = list(depthwise_linear(aligned, weights, kernels, paths))

        bias = jnp.concatenate([to_gate.scalar_bias, to_scores.scalar_bias])
        scalars = alive_segment(product, 0)[0] + bias.astype(dtype)
        num_scalars, num_gates, _ = split_gate(message)
        to_gate_factors, scores = split_last_axis(
            scalars, (num_scalars + num_gates, irreps.num_scores)
        )
        activated, gates = gate_factors(to_gate_factors, num_scalars)
        product[0] = (activated,)
        segments = alive(select_segments(product, paths.irreps_out, message))
        return gate_orders(segments, message, gates), scores[:, 0]

    def _second_product(self, hidden: AlignedFeatures, frames: EdgeFrames) -> Features:
        irreps, dtype = self.irreps, hidden[0].dtype
        paths = depthwise_paths(irreps.message, irreps.sh, str(irreps.values))
        weight = self.param(
            "tensor_product_weight", nn.initializers.normal(1.0), (paths.weight_numel,)
        )
        to_values = LinearWeights(str(paths.irreps_out), str(irreps.values), name="value_linear")()
        kernels = _kernels_of_product(to_values, irreps.values, paths, dtype, irreps.alive)
        product = shared_depthwise_linear(hidden, weight.astype(dtype), kernels, paths)
        segments = list(select_segments(product, paths.irreps_out, irreps.values))
        if segments[0] is not None:
            segments[0] = (segments[0][0] + to_values.scalar_bias.astype(dtype),)
        return unalign(segments, irreps.values, frames.matrices)


class LinearMessage(nn.Module):
    """One tensor product; of each head's scalars the first half are scores (section 6.1).

    Attributes:
      irreps: what all messages know.
      fc_neurons: hidden widths of the radial network.
    """

    irreps: MessageIrreps
    fc_neurons: tuple[int, ...]

    @nn.compact
    def __call__(self, aligned: AlignedFeatures, frames: EdgeFrames) -> tuple[jax.Array, Features]:
        """Maps aligned features of `irreps.message` to logits and values."""
        irreps = self.irreps
        outputs = (e3nn.Irreps(f"{irreps.num_scores}x0e") + irreps.values).simplify()
        segments, bias = _product_and_linear(self, aligned, frames, outputs, irreps.alive | {"0e"})
        scalars = alive_segment(segments, 0)[0] + bias
        scores, values = jnp.split(split_heads(scalars[:, 0], irreps.num_heads), 2, axis=-1)
        segments[0] = (values.reshape(*scalars.shape[:-1], -1),) if "0e" in irreps.alive else None
        logits = _MlpLogits(irreps.num_heads, name="logits")(scores.reshape(scalars.shape[0], -1))
        return logits, unalign(segments, irreps.values, frames.matrices)


class DotProductMessage(nn.Module):
    """One tensor product to keys and values; the logits compare keys with queries (section 6.2).

    Attributes:
      irreps: what all messages know.
      fc_neurons: hidden widths of the radial network.
    """

    irreps: MessageIrreps
    fc_neurons: tuple[int, ...]

    @nn.compact
    def __call__(
        self, aligned: AlignedFeatures, frames: EdgeFrames, queries: AliveFeatures
    ) -> tuple[jax.Array, Features]:
        """Maps aligned features of `irreps.message` and queries at the edges to logits and values.

        `queries` are scaled segments `[E, 2l+1, heads * channels]` of the receivers.
        """
        irreps = self.irreps
        outputs = repeat_irreps(irreps.values, 2)
        segments, bias = _product_and_linear(self, aligned, frames, outputs)
        segments[0] = (alive_segment(segments, 0)[0] + bias,)
        both = library_order_to_heads(unalign(segments, outputs, frames.matrices), outputs)
        keys, values = zip(*(jnp.split(x, 2, axis=-1) for x in alive(both)), strict=True)
        logits = dot_product_logits(
            [split_heads(q, irreps.num_heads) for q in queries],
            [split_heads(k, irreps.num_heads) for k in keys],
        )
        degrees = {e3nn.Irrep(ir).l for ir in irreps.alive}
        return logits, tuple(
            x if ir.l in degrees else None for x, (_, ir) in zip(values, irreps.values, strict=True)
        )


Message: TypeAlias = NonlinearMessage | LinearMessage | DotProductMessage


class _MlpLogits(nn.Module):
    """Logits from scalar scores `[E, heads * channels]` (section 6.1, step 3)."""

    num_heads: int

    @nn.compact
    def __call__(self, scores: jax.Array) -> jax.Array:
        split = split_heads(scores, self.num_heads)
        bound = (6 / (self.num_heads + split.shape[-1])) ** 0.5
        init = nn.initializers.uniform(2 * bound)
        alpha_dot = self.param(
            "alpha_dot", lambda key, shape: init(key, shape) - bound, split.shape[1:]
        )
        return mlp_attention_logits(split, alpha_dot)


def _product_and_linear(
    module: LinearMessage | DotProductMessage,
    aligned: AlignedFeatures,
    frames: EdgeFrames,
    outputs: e3nn.Irreps,
    alive: frozenset[str] | None = None,
) -> tuple[list[Sequence[jax.Array] | None], jax.Array]:
    """A tensor product with radial weights and a linear map to `outputs`.

    Returns:
      The orders of each segment of `outputs`, and the bias that its even scalars still need.
    """
    irreps, dtype = module.irreps, aligned[0].dtype
    paths = depthwise_paths(irreps.message, irreps.sh, str(outputs))
    weights = _radial_weights(module.fc_neurons, paths, frames, dtype)
    linear = LinearWeights(str(paths.irreps_out), str(outputs), name="message_linear")()
    kernels = _kernels_of_product(linear, outputs, paths, dtype, alive)
    product = depthwise_linear(aligned, weights, kernels, paths)
    segments = list(select_segments(product, paths.irreps_out, outputs))
    return segments, linear.scalar_bias.astype(dtype)


def _radial_weights(
    fc_neurons: tuple[int, ...], paths: DepthwisePaths, frames: EdgeFrames, dtype: jnp.dtype
) -> jax.Array:
    network = RadialNetwork(fc_neurons, paths.weight_numel, name="radial")
    return network(frames.scalars.astype(dtype)).per_edge()


def _kernels_of_product(
    parameters: LinearParameters,
    outputs: e3nn.Irreps,
    paths: DepthwisePaths,
    dtype: jnp.dtype,
    alive: frozenset[str] | None = None,
) -> list[jax.Array | None]:
    """The kernel for each irrep of the product.

    `None` where the irrep leads nowhere, or to nothing that is read.
    """
    by_irrep = {
        str(ir): kernel for kernel, (_, ir) in zip(parameters.kernels, outputs, strict=True)
    }
    kernels = []
    for _, ir in paths.irreps_out:
        kernel = by_irrep.get(str(ir)) if alive is None or str(ir) in alive else None
        kernels.append(None if kernel is None else kernel.astype(dtype))
    return kernels

"""Embeddings of what surrounds an atom, and of forces."""

from __future__ import annotations

import e3nn_jax as e3nn
import flax.linen as nn
import jax
import jax.numpy as jnp

from equiformer_jax.nn.context import GraphContext
from equiformer_jax.nn.linear import EquivariantLinear, LinearWeights
from equiformer_jax.nn.radial import RadialNetwork
from equiformer_jax.ops.frames import aligned_harmonics
from equiformer_jax.ops.irreps import AliveFeatures, alive, alive_segment, to_features
from equiformer_jax.ops.paths import DepthwisePaths, depthwise_paths
from equiformer_jax.ops.segment import sum_to_nodes
from equiformer_jax.ops.tensor_product import path_runs


class EdgeDegreeEmbedding(nn.Module):
    """The sum over neighbors of radially weighted harmonics (specification section 5).

    The published layer lifts a constant vector to every node, multiplies it with the harmonics of
    each edge and maps the result linearly before summing. Constant vector, last radial layer and
    linear map do not depend on the edge: only (harmonics x hidden radial features) is summed over
    edges, the rest is done at the nodes. Paths from degrees above 0 multiply zeros and are not
    computed; their parameters exist.

    Attributes:
      irreps_node: irreps of the node features.
      irreps_sh: harmonics of the edges.
      hidden_widths: of the radial network.
      avg_degree: the sum is divided by the root of this number.
    """

    irreps_node: str
    irreps_sh: str
    hidden_widths: tuple[int, ...]
    avg_degree: float

    @nn.compact
    def __call__(self, context: GraphContext) -> AliveFeatures:
        """Returns node features, segments `[N, 2l+1, mul]` of `irreps_node`."""
        paths = depthwise_paths(self.irreps_node, self.irreps_sh, self.irreps_node)
        constant = LinearWeights("1x0e", self.irreps_node, name="constant")()
        radial = RadialNetwork(self.hidden_widths, paths.weight_numel, name="radial")(
            context.scalars
        )
        projection = LinearWeights(str(paths.irreps_out), self.irreps_node, name="projection")()

        vector = alive_segment(constant.kernels, 0)[0] + constant.scalar_bias
        node = e3nn.Irreps(self.irreps_node)
        kernels = {
            str(ir): kernel for kernel, (_, ir) in zip(projection.kernels, node, strict=True)
        }
        pooled, degree = _pool_harmonics(context, radial.hidden)
        width = radial.hidden.shape[-1]
        found: dict[str, jax.Array] = {}
        for columns, rows, ir in _scalar_paths(paths):
            moments = pooled[ir.l]
            weighted = (
                moments[..., :width] @ radial.kernel[:, columns]
                + moments[..., width:] * radial.offset[columns]
            )
            kernel = kernels[str(ir)]
            if kernel is not None:
                found[str(ir)] = (weighted * vector) @ kernel[rows]
        bias = projection.scalar_bias
        return tuple(self._finish(found, mul, ir, bias, degree) for mul, ir in node)

    def _finish(
        self,
        found: dict[str, jax.Array],
        mul: int,
        ir: e3nn.Irrep,
        bias: jax.Array,
        degree: jax.Array,
    ) -> jax.Array:
        total = found.get(str(ir), jnp.zeros((degree.shape[0], ir.dim, mul), degree.dtype))
        if ir == e3nn.Irrep("0e"):
            total = total + degree * bias  # the official bias is added once per edge
        return total / self.avg_degree**0.5


def _pool_harmonics(
    context: GraphContext, hidden: jax.Array
) -> tuple[dict[int, jax.Array], jax.Array]:
    """Sums harmonics x (hidden features, 1) over neighbors.

    Returns:
      Per degree `[N, 2l+1, width + 1]`, and the number of neighbors `[N, 1, 1]`.
    """
    edges, num_nodes = context.edges, context.graph_index.shape[0]
    weight = edges.strength(hidden.dtype)
    features = jnp.concatenate([hidden, jnp.ones_like(hidden[:, :1])], axis=-1) * weight[:, None]
    ones = jnp.ones((hidden.shape[0], 1), hidden.dtype)
    harmonics = jnp.concatenate([ones, *aligned_harmonics(context.matrices)], axis=-1)
    products = harmonics[:, :, None] * features[:, None, :]
    summed = sum_to_nodes(products, edges.receivers, num_nodes, edges.axis)
    pooled = {
        degree: summed[:, degree**2 : (degree + 1) ** 2]
        for degree in range(len(context.matrices) + 1)
    }
    return pooled, summed[:, :1, -1:]


def _scalar_paths(paths: DepthwisePaths) -> list[tuple[slice, slice, e3nn.Irrep]]:
    """The paths from even scalars.

    Returns:
      Of each path its columns among all weights, its rows within the group, and its irrep.
    """
    scalar = next(i for i, (_, ir) in enumerate(paths.irreps_in) if ir == e3nn.Irrep("0e"))
    found = []
    for group, (_, ir), columns in zip(
        paths.groups, paths.irreps_out, paths.group_slices, strict=True
    ):
        for run in path_runs(group):
            if run.segment == scalar:
                start = columns.start + run.start
                found.append((slice(start, start + run.mul), slice(run.start, run.stop), ir))
    return found


class ForceEmbedding(nn.Module):
    """Embeds a force at each node: its harmonics times `|F| / sqrt(3)` (specification section 9).

    Attributes:
      irreps_inputs: harmonics to use.
      irreps_node: irreps of the node features.
    """

    irreps_inputs: str
    irreps_node: str

    @nn.compact
    def __call__(self, forces: jax.Array) -> AliveFeatures:
        """Maps `[N, 3]`, in the units of the data set, to segments of `irreps_node`."""
        squared = jnp.sum(forces**2, axis=-1, keepdims=True)
        present = squared > 0
        polar = jnp.array([0.0, 1.0, 0.0], forces.dtype)
        safe = jnp.where(present, forces, polar)
        length = jnp.where(present, jnp.sqrt(jnp.sum(safe**2, axis=-1, keepdims=True)), 0)
        harmonics = e3nn.spherical_harmonics(
            e3nn.Irreps(self.irreps_inputs), safe, normalize=True, normalization="component"
        )
        encoded = to_features(harmonics.array * length / 3**0.5, self.irreps_inputs)
        linear = EquivariantLinear(self.irreps_inputs, self.irreps_node, name="linear")
        return alive(linear(encoded))

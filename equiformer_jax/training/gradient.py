"""Loss and gradient of one batch over all devices, whole or in micro-batches.

Every device computes the sums of its own slice of the batch. Sums and counts are added up over the
devices and micro-batches before anything is divided, so that loss and gradient are those of one
device with the whole batch, however the graphs and the padding are dealt out.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import jraph
from jax.sharding import Mesh

from equiformer_jax.ops.segment import mean_over_parts
from equiformer_jax.training.edge_parts import (
    batch_specs,
    edge_axis_of,
    with_divisible_edges,
)
from equiformer_jax.training.objectives import Mean, Objective, weighted_loss
from equiformer_jax.training.prediction import Predict
from equiformer_jax.training.sharding import (
    DATA_AXIS,
    EVERYWHERE,
    Tree,
    divided_axis,
    divided_spec,
)
from equiformer_jax.training.state import Params

Means = dict[str, Mean]
Counts = Mapping[str, jax.Array]
# (params, key, number of steps done, batch) -> gradient and sums over the whole batch.
Gradient = Callable[[Params, jax.Array, jax.Array, jraph.GraphsTuple], tuple[Params, Means]]


def make_gradient(
    predict: Predict, objective: Objective, mesh: Mesh, accumulate: int, divided: bool = False
) -> Gradient:
    """Builds the gradient of the loss of a whole batch.

    Args:
      predict: the model, made for the edge axis of the mesh if that divides edges.
      objective: what to minimize and what to report.
      mesh: devices that share a batch.
      accumulate: micro-batches that make up a batch. With 1 the arrays of a batch have a leading
        device axis; with more a second axis of this length follows, and micro-batches run one after
        another in the memory of one of them.
      divided: leave each device with its slice of the gradient (`sharding.divided_spec`) instead of
        giving all of it to all.

    Returns:
      `gradient(params, key, step, graph) -> (gradient, means)`, for use inside `jit`; the means are
      the metrics and, as `loss/<term>`, the terms of the loss.

    Raises:
      ValueError: `accumulate` is below 1; when traced, a batch has other axes.
    """
    if accumulate < 1:
        raise ValueError(f"accumulate={accumulate}; expected at least 1 micro-batch")
    share = _Share(predict, objective)
    compute = share.of_one if accumulate == 1 else share.of_micro_batches

    def local_gradient(
        params: Params, key: jax.Array, step: jax.Array, graph: jraph.GraphsTuple
    ) -> tuple[Params, Means]:
        _check_axes(graph, accumulate)
        key = jax.random.fold_in(key, jax.lax.axis_index(DATA_AXIS))
        gradient, means = compute(params, key, step, without_device_axis(graph))
        gradient = mean_over_parts(gradient, edge_axis_of(mesh))
        add_up = functools.partial(_own_slice_over_devices, mesh=mesh) if divided else _over_devices
        return jax.tree.map(add_up, gradient), _over_devices(means)

    def gradient(
        params: Params, key: jax.Array, step: jax.Array, graph: jraph.GraphsTuple
    ) -> tuple[Params, Means]:
        graph = with_divisible_edges(graph, mesh)
        specs: Any = EVERYWHERE
        if divided:
            specs = jax.tree.map(lambda leaf: divided_spec(leaf.shape, mesh), params)
        # Varying-axes checks are off: the model's own scans start from constants, which would all
        # have to be marked as varying. The sums over devices above are therefore written out.
        over_devices = jax.shard_map(
            local_gradient,
            mesh=mesh,
            in_specs=(EVERYWHERE, EVERYWHERE, EVERYWHERE, batch_specs(mesh, accumulate)),
            out_specs=(specs, EVERYWHERE),
            check_vma=False,
        )
        return over_devices(params, key, step, graph)

    return gradient


@dataclasses.dataclass(frozen=True)
class _Share:
    """The share of one device in gradient and sums.

    Counts do not depend on the parameters: with those of the whole batch, the share of a device and
    micro-batch in the loss is linear in its sums, and shares and gradients simply add up.
    """

    predict: Predict
    objective: Objective

    def of_one(
        self,
        params: Params,
        key: jax.Array,
        step: jax.Array,
        graph: jraph.GraphsTuple,
        counts: Counts | None = None,
    ) -> tuple[Params, Means]:
        """With one batch; `counts` of the whole are its own over the devices if not given."""

        def loss(params: Params) -> tuple[jax.Array, Means]:
            predictions = self.predict(params, graph, key)
            terms = self.objective.terms(predictions, graph)
            whole = _over_devices(_counts_of(terms)) if counts is None else counts
            shares = {name: Mean(term.total, whole[name]) for name, term in terms.items()}
            metrics = self.objective.metrics(predictions, graph)
            value = weighted_loss(shares, self.objective.weights_at(step))
            return value, named_means(terms, metrics)

        return jax.grad(loss, has_aux=True)(params)

    def of_micro_batches(
        self, params: Params, key: jax.Array, step: jax.Array, graphs: jraph.GraphsTuple
    ) -> tuple[Params, Means]:
        """With micro-batches along the leading axis, one after another."""
        local = jax.lax.map(lambda graph: self._counts(params, key, graph), graphs)
        counts = _over_devices(_over_leading_axis(local))

        def add(total: Params, one: tuple[jax.Array, jraph.GraphsTuple]) -> tuple[Params, Means]:
            index, graph = one
            own_key = jax.random.fold_in(key, index)
            gradient, means = self.of_one(params, own_key, step, graph, counts)
            return jax.tree.map(jnp.add, total, gradient), means

        start = jax.tree.map(jnp.zeros_like, params)
        indices = jnp.arange(len(graphs.n_node))
        gradient, means = jax.lax.scan(add, start, (indices, graphs))
        return gradient, _over_leading_axis(means)

    def _counts(self, params: Params, key: jax.Array, graph: jraph.GraphsTuple) -> Counts:
        """What each term counts: that depends on the graph alone, so no model has to run."""
        shapes = jax.eval_shape(self.predict, params, graph, key)
        zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
        return _counts_of(self.objective.terms(zeros, graph))


def without_device_axis(graph: jraph.GraphsTuple) -> jraph.GraphsTuple:
    """The slice of this device: its leading axis has length one inside `shard_map`."""
    return jax.tree.map(lambda leaf: leaf[0], graph)


def named_means(terms: Means, metrics: Means) -> Means:
    """Metrics, and the terms of the loss as `loss/<term>`."""
    return {f"loss/{name}": term for name, term in terms.items()} | metrics


def _counts_of(terms: Means) -> Counts:
    """What each term counts."""
    return {name: term.count for name, term in terms.items()}


def _over_devices(tree: Tree) -> Tree:
    return jax.lax.psum(tree, DATA_AXIS)


def _own_slice_over_devices(leaf: jax.Array, mesh: Mesh) -> jax.Array:
    """The sum over devices, of which each keeps its slice where the array is divided."""
    axis = divided_axis(leaf.shape, mesh)
    if axis is None:
        return _over_devices(leaf)
    return jax.lax.psum_scatter(leaf, DATA_AXIS, scatter_dimension=axis, tiled=True)


def _over_leading_axis(tree: Tree) -> Tree:
    return jax.tree.map(lambda leaf: jnp.sum(leaf, axis=0), tree)


def _check_axes(graph: jraph.GraphsTuple, accumulate: int) -> None:
    expected = (1, accumulate) if accumulate > 1 else (1,)
    if graph.n_node.shape[:-1] != expected:
        micro = f", accumulate={accumulate}" if accumulate > 1 else ""
        raise ValueError(
            f"with accumulate={accumulate} a batch has the axes [devices{micro}, graphs]; on one "
            f"device n_node has the shape {graph.n_node.shape}"
        )

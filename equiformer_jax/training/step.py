"""One training step and one evaluation step over all devices."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import jraph
import optax
from jax.sharding import Mesh

from equiformer_jax.training.averages import ParameterAverage
from equiformer_jax.training.edge_parts import batch_specs, with_divisible_edges
from equiformer_jax.training.gradient import (
    Means,
    make_gradient,
    named_means,
    without_device_axis,
)
from equiformer_jax.training.objectives import Mean, Objective, Predictions, weighted_loss
from equiformer_jax.training.prediction import Predict, make_predict
from equiformer_jax.training.sharding import (
    DATA_AXIS,
    EVERYWHERE,
    SPLIT,
    divided_sharding,
    replicated_sharding,
    split_sharding,
)
from equiformer_jax.training.state import Params, TrainState, state_sharding

__all__ = [
    "EvaluationStep",
    "Means",
    "Predict",
    "Predictions",
    "TrainStep",
    "compile_train_step",
    "make_evaluation_step",
    "make_predict",
    "make_train_step",
    "traceable_train_step",
]

TrainStep = Callable[[TrainState, jraph.GraphsTuple], tuple[TrainState, Means]]
EvaluationStep = Callable[[Params, jraph.GraphsTuple], tuple[Means, Predictions]]


def make_train_step(
    predict: Predict,
    optimizer: optax.GradientTransformation,
    objective: Objective,
    mesh: Mesh,
    *,
    accumulate: int = 1,
    average: ParameterAverage | None = None,
    skip_nonfinite: bool = False,
    shard_optimizer: bool = False,
) -> TrainStep:
    """Builds the jitted training step.

    Args:
      predict: the model.
      optimizer: its optimizer.
      objective: what to minimize and what to report.
      mesh: devices that share a batch (`sharding.make_data_mesh`).
      accumulate: micro-batches that make up a batch; their gradient is that of one batch of all
        their graphs. The graph has a leading device axis and, with more than one micro-batch, a
        second axis of this length (`batching.stack_for_devices` of each device's, then of all).
      average: keeps this moving average in the state, which must have been created with one.
      skip_nonfinite: where the loss or the norm of the gradient is not finite, leave parameters,
        optimizer (the count of its schedule included) and average as they were.
      shard_optimizer: the state of the optimizer and the average lie divided over the devices, as
        `state.state_sharding` has them. Each device sums up and applies its slice of the gradient,
        and the devices then exchange the parameters. On many devices the compiler may exchange more
        bytes for that than for the gradient (docs/tpu.md).

    Returns:
      `step(state, graph) -> (state, means)`. The given state's buffers are reused and must not be
      read again. `means` holds the metrics and, as `loss/<term>`, the terms of the loss over the
      whole batch, each as a sum and a count; `loss` is their weighted sum and `gradient_norm` the
      norm of the whole gradient, both with count 1. With `skip_nonfinite` there is `skipped`, 1 or
      0 with count 1, and in a skipped step everything else counts nothing.

    Raises:
      ValueError: `accumulate` is below 1; when traced, the batch has other axes, or the state has
        an average and the step has none or the other way round.
    """
    step = traceable_train_step(
        predict,
        optimizer,
        objective,
        mesh,
        accumulate=accumulate,
        average=average,
        skip_nonfinite=skip_nonfinite,
        shard_optimizer=shard_optimizer,
    )
    return compile_train_step(step, mesh, shard_optimizer)


def traceable_train_step(
    predict: Predict,
    optimizer: optax.GradientTransformation,
    objective: Objective,
    mesh: Mesh,
    *,
    accumulate: int,
    average: ParameterAverage | None,
    skip_nonfinite: bool,
    shard_optimizer: bool = False,
) -> TrainStep:
    """The step of `make_train_step` before `jit`; arguments as there."""
    global_gradient = make_gradient(predict, objective, mesh, accumulate, shard_optimizer)

    def own_slices(params: Params) -> Params:
        """What of the parameters each device updates."""
        if not shard_optimizer:
            return params
        return jax.lax.with_sharding_constraint(params, divided_sharding(params, mesh))

    def step(state: TrainState, graph: jraph.GraphsTuple) -> tuple[TrainState, Means]:
        _check_average(state, average)
        key = jax.random.fold_in(state.rng, state.step)
        gradient, means = global_gradient(state.params, key, state.step, graph)
        one = jnp.ones((), jnp.int32)
        loss = _weighted_loss(means, objective, state.step)
        means |= {"loss": Mean(loss, one), "gradient_norm": Mean(optax.tree.norm(gradient), one)}

        params = own_slices(state.params)
        updates, opt_state = optimizer.update(gradient, state.opt_state, params)
        params = own_slices(optax.apply_updates(params, updates))
        ema_params = state.ema_params
        if average is not None and ema_params is not None:
            ema_params = average.update(ema_params, params, state.step)
        new = TrainState(
            step=state.step + 1,
            params=params,
            opt_state=opt_state,
            rng=state.rng,
            ema_params=ema_params,
        )
        return _skip_nonfinite(state, new, means) if skip_nonfinite else (new, means)

    return step


def compile_train_step(
    step: TrainStep, mesh: Mesh, shard_optimizer: bool = False, has_members: bool = False
) -> TrainStep:
    """`jit` of a step whose batch is split over the devices.

    Args:
      step: what to compile.
      mesh: the devices.
      shard_optimizer: the state lies as `state.state_sharding` has it, and is given so; without,
        every device has all of it.
      has_members: the state is that of several models (`ensemble.ensemble_state`).
    """
    if not shard_optimizer:
        return jax.jit(
            step,
            in_shardings=(replicated_sharding(mesh), split_sharding(mesh)),
            out_shardings=replicated_sharding(mesh),
            donate_argnums=0,
        )

    def divided_step(state: TrainState, graph: jraph.GraphsTuple) -> tuple[TrainState, Means]:
        new, means = step(state, graph)
        places = state_sharding(new, mesh, shard_optimizer, has_members)
        return jax.lax.with_sharding_constraint(new, places), means

    # What a state is made of is known when the first one comes: it keeps its place.
    return jax.jit(
        divided_step,
        in_shardings=(None, split_sharding(mesh)),
        out_shardings=(None, replicated_sharding(mesh)),
        donate_argnums=0,
    )


def make_evaluation_step(predict: Predict, objective: Objective, mesh: Mesh) -> EvaluationStep:
    """Builds the jitted evaluation step, dropout off.

    Args:
      predict: the model.
      objective: what to report.
      mesh: devices that share a batch.

    Returns:
      `step(params, graph) -> (means, predictions)`: metrics and terms of the loss as in training,
      and the predictions with a leading device axis, in network units.
    """

    def local_evaluation(params: Params, graph: jraph.GraphsTuple) -> tuple[Means, Predictions]:
        graph = without_device_axis(graph)
        predictions = predict(params, graph, None)
        means = named_means(
            objective.terms(predictions, graph), objective.metrics(predictions, graph)
        )
        stacked = jax.tree.map(lambda leaf: leaf[None], predictions)
        return jax.lax.psum(means, DATA_AXIS), stacked

    def evaluation(params: Params, graph: jraph.GraphsTuple) -> tuple[Means, Predictions]:
        over_devices = jax.shard_map(
            local_evaluation,
            mesh=mesh,
            in_specs=(EVERYWHERE, batch_specs(mesh)),
            out_specs=(EVERYWHERE, SPLIT),
            check_vma=False,
        )
        return over_devices(params, with_divisible_edges(graph, mesh))

    return jax.jit(evaluation, in_shardings=(replicated_sharding(mesh), split_sharding(mesh)))


def _weighted_loss(means: Means, objective: Objective, step: jax.Array) -> jax.Array:
    prefix = "loss/"
    terms = {
        name.removeprefix(prefix): mean for name, mean in means.items() if name.startswith(prefix)
    }
    return weighted_loss(terms, objective.weights_at(step))


def _check_average(state: TrainState, average: ParameterAverage | None) -> None:
    if (state.ema_params is None) != (average is None):
        has, lacks = ("step", "state") if state.ema_params is None else ("state", "step")
        raise ValueError(
            f"average: the {has} has a moving average of the parameters and the {lacks} has none; "
            "give make_train_step an average and create_train_state with_average=True, or neither"
        )


def _skip_nonfinite(old: TrainState, new: TrainState, means: Means) -> tuple[TrainState, Means]:
    """The new state and its means; the old one with means of nothing where the step went wrong."""
    finite = jnp.isfinite(means["loss"].total) & jnp.isfinite(means["gradient_norm"].total)
    kept = jax.tree.map(lambda after, before: jnp.where(finite, after, before), new, old)
    kept = dataclasses.replace(kept, step=new.step)
    counted = jax.tree.map(lambda number: jnp.where(finite, number, 0), means)
    counted["skipped"] = Mean((~finite).astype(jnp.int32), jnp.ones((), jnp.int32))
    return kept, counted

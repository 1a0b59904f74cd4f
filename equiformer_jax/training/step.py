"""One training step and one evaluation step over all devices.

Every device computes the sums of its own slice of the batch. Sums and counts are added up over the
devices before anything is divided, so that loss and gradient are those of one device with the whole
batch, however the graphs and the padding are dealt out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import jraph
import optax
from jax.sharding import Mesh

from equiformer_jax.models.equiformer import Equiformer
from equiformer_jax.models.potential import energy_and_forces
from equiformer_jax.training.objectives import Mean, Objective, weighted_loss
from equiformer_jax.training.sharding import (
    DATA_AXIS,
    EVERYWHERE,
    SPLIT,
    replicated_sharding,
    split_sharding,
)
from equiformer_jax.training.state import Params, TrainState

Predictions = Mapping[str, jax.Array]
Means = dict[str, Mean]


class Predict(Protocol):
    """A model as the steps see it: `energy [G]` and, where asked for, `forces [N, 3]`."""

    def __call__(
        self, params: Params, graph: jraph.GraphsTuple, dropout_key: jax.Array | None
    ) -> Predictions:
        """Predicts in network units; without a key, dropout is off."""
        ...


TrainStep = Callable[[TrainState, jraph.GraphsTuple], tuple[TrainState, Means]]
EvaluationStep = Callable[[Params, jraph.GraphsTuple], tuple[Means, Predictions]]


def make_predict(model: Equiformer, needs_forces: bool) -> Predict:
    """The model as a function of its parameters.

    Args:
      model: the network.
      needs_forces: whether to differentiate the energy.
    """

    def predict(
        params: Params, graph: jraph.GraphsTuple, dropout_key: jax.Array | None
    ) -> Predictions:
        variables = {"params": params}
        deterministic = dropout_key is None
        rngs = None if dropout_key is None else {"dropout": dropout_key}
        if needs_forces:
            energy, forces = energy_and_forces(model, variables, graph, deterministic, rngs)
            return {"energy": energy, "forces": forces}
        outputs: Any = model.apply(variables, graph, deterministic, rngs=rngs)
        return {"energy": outputs["energy"]}

    return predict


def make_train_step(
    predict: Predict, optimizer: optax.GradientTransformation, objective: Objective, mesh: Mesh
) -> TrainStep:
    """Builds the jitted training step.

    Args:
      predict: the model.
      optimizer: its optimizer.
      objective: what to minimize and what to report.
      mesh: devices that share a batch (`sharding.make_data_mesh`).

    Returns:
      `step(state, graph) -> (state, means)`. The graph has a leading device axis; the given state's
      buffers are reused and must not be read again. `means` holds the metrics and, as
      `loss/<term>`, the terms of the loss over the whole batch, each as a sum and a count; `loss`
      is their weighted sum and `gradient_norm` the norm of the whole gradient, both with count 1.
    """

    def local_gradient(
        params: Params, key: jax.Array, graph: jraph.GraphsTuple
    ) -> tuple[Params, Means]:
        graph = _without_device_axis(graph)
        key = jax.random.fold_in(key, jax.lax.axis_index(DATA_AXIS))

        def local_share_of_loss(params: Params) -> tuple[jax.Array, tuple[Means, Means]]:
            predictions = predict(params, graph, key)
            terms = objective.terms(predictions, graph)
            # Counts do not depend on the parameters: with the global ones the local share of the
            # loss is linear in the local sums, and shares and gradients simply add up.
            shares = {
                name: Mean(term.total, jax.lax.psum(term.count, DATA_AXIS))
                for name, term in terms.items()
            }
            loss = weighted_loss(shares, objective.weights)
            return loss, (terms, objective.metrics(predictions, graph))

        gradient, (terms, metrics) = jax.grad(local_share_of_loss, has_aux=True)(params)
        return jax.lax.psum((gradient, _named_means(terms, metrics)), DATA_AXIS)

    # Varying-axes checks are off: the model's own scans start from constants, which would all have
    # to be marked as varying. The sums over devices above are therefore written out.
    global_gradient = jax.shard_map(
        local_gradient,
        mesh=mesh,
        in_specs=(EVERYWHERE, EVERYWHERE, SPLIT),
        out_specs=EVERYWHERE,
        check_vma=False,
    )

    def step(state: TrainState, graph: jraph.GraphsTuple) -> tuple[TrainState, Means]:
        key = jax.random.fold_in(state.rng, state.step)
        gradient, means = global_gradient(state.params, key, graph)
        updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        terms = {name: means[f"loss/{name}"] for name in objective.weights}
        one = jnp.ones((), jnp.int32)
        means["loss"] = Mean(weighted_loss(terms, objective.weights), one)
        means["gradient_norm"] = Mean(optax.tree.norm(gradient), one)
        new = TrainState(step=state.step + 1, params=params, opt_state=opt_state, rng=state.rng)
        return new, means

    return jax.jit(
        step,
        in_shardings=(replicated_sharding(mesh), split_sharding(mesh)),
        out_shardings=replicated_sharding(mesh),
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
        graph = _without_device_axis(graph)
        predictions = predict(params, graph, None)
        means = _named_means(
            objective.terms(predictions, graph), objective.metrics(predictions, graph)
        )
        stacked = jax.tree.map(lambda leaf: leaf[None], predictions)
        return jax.lax.psum(means, DATA_AXIS), stacked

    evaluation = jax.shard_map(
        local_evaluation,
        mesh=mesh,
        in_specs=(EVERYWHERE, SPLIT),
        out_specs=(EVERYWHERE, SPLIT),
        check_vma=False,
    )
    return jax.jit(evaluation, in_shardings=(replicated_sharding(mesh), split_sharding(mesh)))


def _without_device_axis(graph: jraph.GraphsTuple) -> jraph.GraphsTuple:
    """The slice of this device: its leading axis has length one inside `shard_map`."""
    return jax.tree.map(lambda leaf: leaf[0], graph)


def _named_means(terms: Means, metrics: Means) -> Means:
    return {f"loss/{name}": term for name, term in terms.items()} | metrics

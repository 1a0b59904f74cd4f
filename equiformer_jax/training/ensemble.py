"""Several models of one kind trained together in one program, each from its own random numbers.

Members see the same batches. They differ in their initial parameters and in their dropout, so the
spread of their predictions tells where they are unsure. What a single training has once, an
ensemble has stacked: every leaf of its parameters and of its state has a leading member axis.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import jraph
import optax
from jax.sharding import Mesh

from equiformer_jax.training.averages import ParameterAverage
from equiformer_jax.training.gradient import Means
from equiformer_jax.training.objectives import Objective
from equiformer_jax.training.prediction import Predict, Predictions
from equiformer_jax.training.sharding import Tree
from equiformer_jax.training.state import Params, TrainState
from equiformer_jax.training.step import TrainStep, compile_train_step, traceable_train_step

SPREAD_PREFIX = "spread_"
# Outputs whose spread over the members is given, too.
_WITH_SPREAD = ("energy", "forces")
# Members take their steps together, so they share the count of them.
_AXES: Any = TrainState(
    step=None,  # type: ignore[arg-type]
    params=0,  # type: ignore[arg-type]
    opt_state=0,
    rng=0,  # type: ignore[arg-type]
    ema_params=0,  # type: ignore[arg-type]
)


def stack_members(members: Sequence[Tree]) -> Tree:
    """Puts parameters of the same structure on a new leading axis of every leaf.

    Args:
      members: at least one, each made as that of a training of its own, with its own keys.

    Raises:
      ValueError: there is none.
    """
    if not members:
        raise ValueError("members: expected at least one, got none")
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *members)


def member(stacked: Tree, index: int) -> Tree:
    """What belongs to one member, as that of a training of its own."""
    return jax.tree.map(lambda leaf: leaf[index], stacked)


def init_members(
    init: Callable[[jax.Array, jraph.GraphsTuple], Params],
    key: jax.Array,
    graph: jraph.GraphsTuple,
    members: int,
) -> Params:
    """Fresh parameters of all members; member i draws from `fold_in(key, i)`."""
    return jax.vmap(init, in_axes=(0, None))(_keys_of_members(key, members), graph)


def ensemble_state(
    create: Callable[[Params, jax.Array], TrainState], params: Params, key: jax.Array
) -> TrainState:
    """The state before the first step.

    Args:
      create: makes the state of one member from its parameters and key.
      params: of all members.
      key: of the run; member i draws from `fold_in(key, i)`.

    Returns:
      A state whose leaves have a member axis, but for `step`, which all members share.
    """
    members = len(jax.tree.leaves(params)[0])
    return jax.vmap(create, out_axes=_AXES)(params, _keys_of_members(key, members))


def _keys_of_members(key: jax.Array, members: int) -> jax.Array:
    return jax.vmap(lambda index: jax.random.fold_in(key, index))(jnp.arange(members))


def make_ensemble_predict(predict: Predict) -> Predict:
    """The ensemble as one model: the mean of what its members predict.

    Returns:
      A function of stacked parameters. Beside the mean of every output it gives the standard
      deviation over the members (of n, not n - 1) as `spread_energy [G]` and, with forces,
      `spread_forces [N, 3]`. The mean forces are the derivative of the mean energy.
    """

    def predict_mean(
        params: Params, graph: jraph.GraphsTuple, dropout_key: jax.Array | None
    ) -> Predictions:
        of_members = jax.vmap(lambda one: predict(one, graph, dropout_key))(params)
        means = {name: jnp.mean(values, axis=0) for name, values in of_members.items()}
        spreads = {
            SPREAD_PREFIX + name: jnp.std(of_members[name], axis=0)
            for name in _WITH_SPREAD
            if name in of_members
        }
        return means | spreads

    return predict_mean


def make_ensemble_train_step(
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
    """Builds the jitted training step of all members.

    Each member takes exactly the step of `make_train_step`, up to round-off: gradient, clipping,
    average and skipped steps are its own.

    Args:
      predict: the model of one member.
      optimizer: the optimizer of each member.
      objective: what to minimize and what to report.
      mesh: devices that share a batch; each holds all members.
      accumulate: as in `make_train_step`.
      average: as in `make_train_step`.
      skip_nonfinite: as in `make_train_step`.
      shard_optimizer: as in `make_train_step`.

    Returns:
      `step(state, graph) -> (state, means)` for a state of `ensemble_state`; the graph is that of
      `make_train_step`, and sums and counts are added up over the members.
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

    def step_of_all(state: TrainState, graph: jraph.GraphsTuple) -> tuple[TrainState, Means]:
        state, means = jax.vmap(step, in_axes=(_AXES, None), out_axes=(_AXES, 0))(state, graph)
        return state, jax.tree.map(lambda leaf: jnp.sum(leaf, axis=0), means)

    return compile_train_step(step_of_all, mesh, shard_optimizer, has_members=True)

"""What a training step reads and writes, and nothing else."""

from __future__ import annotations

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from equiformer_jax.training.sharding import divided_sharding, replicated_sharding

Params = dict[str, Any]  # nested; the leaves are arrays


@flax.struct.dataclass
class TrainState:
    """Everything that a step changes, so that saving it saves the training.

    Attributes:
      step: int32 scalar, number of steps done, skipped ones included.
      params: parameters of the model.
      opt_state: state of the optimizer, learning-rate count included.
      rng: key of the run; step `n` draws from `fold_in(rng, n)`, so a resumed run draws the same.
      ema_params: moving average of the parameters (`averages.ParameterAverage`); `None` without.
    """

    step: jax.Array
    params: Params
    opt_state: optax.OptState
    rng: jax.Array
    ema_params: Params | None = None


def create_train_state(
    params: Params,
    optimizer: optax.GradientTransformation,
    rng: jax.Array,
    with_average: bool = False,
) -> TrainState:
    """The state before the first step.

    Args:
      params: initial parameters.
      optimizer: what will update them.
      rng: key of the run.
      with_average: keep a moving average of the parameters, which starts at the initial ones.
    """
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        opt_state=optimizer.init(params),
        rng=rng,
        # Buffers of its own: a step donates them, and nothing can be donated twice.
        ema_params=jax.tree.map(jnp.copy, params) if with_average else None,
    )


def state_sharding(
    state: TrainState, mesh: Mesh, shard_optimizer: bool, has_members: bool = False
) -> TrainState:
    """Where each array of a state lies.

    Args:
      state: arrays, or anything with their shapes.
      mesh: the devices that share a batch.
      shard_optimizer: divide the state of the optimizer and the moving average over the devices
        (ZeRO, https://arxiv.org/abs/1910.02054, stage 2); else every device holds all of them.
      has_members: arrays have a leading axis of models (`ensemble.ensemble_state`).

    Returns:
      The same structure with a sharding in place of each array.
    """
    places = jax.tree.map(lambda _: replicated_sharding(mesh), state)
    if not shard_optimizer:
        return places
    return places.replace(
        opt_state=divided_sharding(state.opt_state, mesh, int(has_members)),
        ema_params=divided_sharding(state.ema_params, mesh, int(has_members)),
    )


def count_parameters(params: Params) -> int:
    """Number of scalars in all parameters."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def size_in_bytes(state: TrainState) -> int:
    """Bytes of all arrays of a state."""
    return sum(leaf.nbytes for leaf in jax.tree.leaves(state))

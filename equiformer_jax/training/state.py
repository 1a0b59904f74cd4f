"""What a training step reads and writes, and nothing else."""

from __future__ import annotations

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax

Params = dict[str, Any]  # nested; the leaves are arrays


@flax.struct.dataclass
class TrainState:
    """Everything that a step changes, so that saving it saves the training.

    Attributes:
      step: int32 scalar, number of steps done.
      params: parameters of the model.
      opt_state: state of the optimizer, learning-rate count included.
      rng: key of the run; step `n` draws from `fold_in(rng, n)`, so a resumed run draws the same.
    """

    step: jax.Array
    params: Params
    opt_state: optax.OptState
    rng: jax.Array


def create_train_state(
    params: Params, optimizer: optax.GradientTransformation, rng: jax.Array
) -> TrainState:
    """The state before the first step."""
    return TrainState(
        step=jnp.zeros((), jnp.int32), params=params, opt_state=optimizer.init(params), rng=rng
    )


def count_parameters(params: Params) -> int:
    """Number of scalars in all parameters."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))

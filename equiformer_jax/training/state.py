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


def count_parameters(params: Params) -> int:
    """Number of scalars in all parameters."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def size_in_bytes(state: TrainState) -> int:
    """Bytes of all arrays of a state."""
    return sum(leaf.nbytes for leaf in jax.tree.leaves(state))

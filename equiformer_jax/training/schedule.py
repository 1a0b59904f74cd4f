"""Learning rates as functions of the training step."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax


def cosine_epoch_schedule(
    base_lr: float,
    warmup_epochs: int,
    num_epochs: int,
    steps_per_epoch: int,
    warmup_lr: float = 1e-6,
    min_lr: float = 1e-6,
) -> optax.Schedule:
    """Cosine decay with a linear warm-up, one rate for each epoch (SPEC §12.1).

    With the epoch `t = step // steps_per_epoch`, counted from 0,

        t < warmup_epochs:  rate = warmup_lr + t (base_lr - warmup_lr) / warmup_epochs
        otherwise:          rate = min_lr + (base_lr - min_lr) (1 + cos(pi t / num_epochs)) / 2

    so that the first epoch runs at `warmup_lr` and the cosine is not shifted by the warm-up. From
    `num_epochs` on the rate stays at `min_lr`.

    Args:
      base_lr: rate at the top of the cosine.
      warmup_epochs: epochs of the linear warm-up; 0 for none.
      num_epochs: epochs of the whole run, warm-up included.
      steps_per_epoch: training steps in an epoch.
      warmup_lr: rate of the first epoch.
      min_lr: rate at the end of the cosine.

    Returns:
      A function of the step, an integer or a traced integer scalar, that returns the rate as a
      scalar of JAX's default floating-point type.

    Raises:
      ValueError: `num_epochs` or `steps_per_epoch` is not positive, or the warm-up is negative or
        longer than the run.
    """
    if num_epochs < 1 or steps_per_epoch < 1:
        raise ValueError(
            f"num_epochs={num_epochs} and steps_per_epoch={steps_per_epoch}; expected at least 1"
        )
    if not 0 <= warmup_epochs <= num_epochs:
        raise ValueError(
            f"warmup_epochs={warmup_epochs}; expected between 0 and num_epochs={num_epochs}"
        )

    def schedule(step: jax.typing.ArrayLike) -> jax.Array:
        epoch = jnp.asarray(step) // steps_per_epoch
        time = jnp.minimum(epoch, num_epochs).astype(jnp.result_type(float))
        warming = warmup_lr + time * ((base_lr - warmup_lr) / max(warmup_epochs, 1))
        cosine = 0.5 * (1.0 + jnp.cos(jnp.pi * time / num_epochs))
        return jnp.where(epoch < warmup_epochs, warming, min_lr + (base_lr - min_lr) * cosine)

    return schedule

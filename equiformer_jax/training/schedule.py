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


def warmup_cosine_step_schedule(
    base_lr: float,
    warmup_steps: int,
    total_steps: int,
    warmup_factor: float = 0.2,
    min_factor: float = 0.01,
) -> optax.Schedule:
    """Cosine decay with a linear warm-up, both from step to step: OC20 (SPEC §12.4).

    With the step `t`, counted from 0,

        t <= warmup_steps:  rate = base_lr (warmup_factor + (1 - warmup_factor) t / warmup_steps)
        otherwise:          rate = base_lr (min_factor
                                            + (1 - min_factor) (1 + cos(pi t / total_steps)) / 2)

    so that the cosine is not shifted by the warm-up and starts a little below `base_lr`. From
    `total_steps` on the rate stays at `base_lr min_factor`.

    Args:
      base_lr: rate at the end of the warm-up.
      warmup_steps: steps of the linear warm-up; 0 for none.
      total_steps: steps of the whole run, warm-up included.
      warmup_factor: rate of the first step over `base_lr`.
      min_factor: rate at the end of the cosine over `base_lr`.

    Returns:
      A function of the step, an integer or a traced integer scalar, that returns the rate as a
      scalar of JAX's default floating-point type.

    Raises:
      ValueError: `total_steps` is not positive, or the warm-up is negative or longer than the run.
    """
    if total_steps < 1:
        raise ValueError(f"total_steps={total_steps}; expected at least 1")
    if not 0 <= warmup_steps <= total_steps:
        raise ValueError(
            f"warmup_steps={warmup_steps}; expected between 0 and total_steps={total_steps}"
        )

    def schedule(step: jax.typing.ArrayLike) -> jax.Array:
        time = jnp.minimum(jnp.asarray(step), total_steps).astype(jnp.result_type(float))
        cosine = 0.5 * (1.0 + jnp.cos(jnp.pi * time / total_steps))
        factor = min_factor + (1.0 - min_factor) * cosine
        if warmup_steps:
            warming = warmup_factor + (1.0 - warmup_factor) * time / warmup_steps
            factor = jnp.where(time <= warmup_steps, warming, factor)
        return base_lr * factor

    return schedule

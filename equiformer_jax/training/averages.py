"""Moving averages of the parameters, which often predict better than the last ones."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from equiformer_jax.training.state import Params


@dataclasses.dataclass(frozen=True)
class ParameterAverage:
    """An exponential moving average of the parameters, off in the published runs (SPEC §12.1).

        average <- d average + (1 - d) params,    d = decay, or min(decay, (1 + n) / (10 + n))

    after every step, the second with a warm-up: then the average forgets the initial parameters
    sooner. `n` is the number of steps done before, so the first step has `d = 1 / 10`.

    Attributes:
      decay: from 0 (the parameters themselves) to 1 (exclusive); 0.9999 is usual.
      warmup: let the decay grow at the beginning.
    """

    decay: float
    warmup: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.decay < 1:
            raise ValueError(f"decay={self.decay}; expected a number of at least 0 and below 1")

    def update(self, average: Params, params: Params, step: jax.Array) -> Params:
        """The average after a step.

        Args:
          average: before the step.
          params: after the step.
          step: int32 scalar, number of steps done before.

        Returns:
          The new average, each leaf of its own type.
        """
        decay = self.decay_at(step)
        return jax.tree.map(
            lambda old, new: old + ((1 - decay) * (new - old)).astype(old.dtype), average, params
        )

    def decay_at(self, step: jax.typing.ArrayLike) -> jax.Array:
        """`d` of the step after so many steps."""
        decay = jnp.asarray(self.decay, jnp.result_type(float))
        if not self.warmup:
            return decay
        done = jnp.asarray(step).astype(decay.dtype)
        return jnp.minimum(decay, (1 + done) / (10 + done))

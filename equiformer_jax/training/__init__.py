"""Training: objectives, optimizer, steps over all devices, checkpoints and the runs themselves."""

from __future__ import annotations

from equiformer_jax.training.optimizer import make_optimizer
from equiformer_jax.training.schedule import cosine_epoch_schedule

__all__ = ["cosine_epoch_schedule", "make_optimizer"]

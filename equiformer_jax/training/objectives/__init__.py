"""What a training minimizes and what it reports, as sums and counts.

A mean over a batch that lies on several devices is the sum of their sums over the sum of their
counts, never the mean of their means: devices hold different numbers of atoms. Objectives therefore
give sums and counts, and the step adds them up over the devices.
"""

from __future__ import annotations

from equiformer_jax.training.objectives.denoising import DenoisingObjective
from equiformer_jax.training.objectives.energy_force import EnergyForceObjective
from equiformer_jax.training.objectives.errors import (
    huber_error,
    l1_error,
    l2_error,
    mse_error,
    summed_l1_error,
)
from equiformer_jax.training.objectives.means import Mean, masked_mean
from equiformer_jax.training.objectives.objective import Objective, Predictions, weighted_loss
from equiformer_jax.training.objectives.relaxation import RelaxationObjective
from equiformer_jax.training.objectives.scalar_target import ScalarTargetObjective

__all__ = [
    "DenoisingObjective",
    "EnergyForceObjective",
    "Mean",
    "Objective",
    "Predictions",
    "RelaxationObjective",
    "ScalarTargetObjective",
    "huber_error",
    "l1_error",
    "l2_error",
    "masked_mean",
    "mse_error",
    "summed_l1_error",
    "weighted_loss",
]

"""What is wrong with a configuration by itself, found before a workdir or any data are touched."""

from __future__ import annotations

from ml_collections import config_dict

from equiformer_jax.models.config import EquiformerConfig
from equiformer_jax.training import recipe
from equiformer_jax.training.configuration import model_from_settings
from equiformer_jax.training.mesh_settings import MeshSettings
from equiformer_jax.training.objectives import (
    DenoisingObjective,
    Objective,
    RelaxationObjective,
)

PARTS = ("seed", "model", "data", "normalizer", "objective", "optimizer", "schedule", "training")
REPORTS = ("last", "best")

_AT_LEAST = {
    "num_epochs": 1,
    "batch_size": 1,
    "evaluation_batch_size": 1,
    "accumulate": 1,
    "ensemble": 1,
    "keep_checkpoints": 1,
    "test_batches": 1,
    "test_every_epochs": 0,
    "log_every_steps": 0,
    "validate_every_steps": 0,
}


def check_configuration(config: config_dict.ConfigDict) -> None:
    """Builds all that can be built without data, to refuse what cannot be at once.

    Args:
      config: of a run, with the parts `PARTS` and perhaps an `augmentation` and a `mesh`.

    Raises:
      ValueError: a part is missing or does not fit; names the field.
    """
    missing = [part for part in PARTS if part not in config]
    if missing:
        raise ValueError(f"config has no {missing}; expected the parts {list(PARTS)}")
    if config.seed < 0:
        raise ValueError(f"config.seed={config.seed}; expected at least 0")
    _check_training(config.training)
    MeshSettings.from_settings(config.get("mesh"))
    augmentation = recipe.build_augmentation(config.get("augmentation"))
    # One step an epoch: how many there are depends on the data, what fits does not.
    length = recipe.RunLength(config.training.num_epochs, 1)
    objective = recipe.build_objective(config.objective, 1.0, length, augmentation)
    _check_heads(objective, model_from_settings(config.model))
    schedule = recipe.build_schedule(config.schedule, config.optimizer.learning_rate, length)
    recipe.build_optimizer(config.optimizer, schedule)
    recipe.build_average(config.optimizer)


def _check_training(training: config_dict.ConfigDict) -> None:
    for name, least in _AT_LEAST.items():
        value = training.get(name)
        if value is not None and value < least:
            raise ValueError(f"config.training.{name}={value}; expected at least {least}")
    if training.report not in REPORTS:
        raise ValueError(f"config.training.report={training.report!r}; known are {list(REPORTS)}")


def _check_heads(objective: Objective, model: EquiformerConfig) -> None:
    """Makes sure that the model predicts what the objective compares."""
    needed = None
    if isinstance(objective, DenoisingObjective):
        needed = "use_denoising"
    elif isinstance(objective, RelaxationObjective) and objective.displacement_std is not None:
        needed = "use_auxiliary_task"
    if needed is not None and not getattr(model, needed):
        raise ValueError(f"config.objective needs a model with config.model.{needed}=True")

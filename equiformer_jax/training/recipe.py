"""What the parts of a configuration stand for: objective, schedule, optimizer, augmentation.

Each part is a mapping. Where there are several kinds of it, its `kind` names one of a table below,
and its other fields are those of that kind.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import optax

from equiformer_jax.data.augmentation import (
    Augmentation,
    DenoisingCorruption,
    RelaxationInterpolation,
)
from equiformer_jax.data.readers.qm9_targets import find_target
from equiformer_jax.training.averages import ParameterAverage
from equiformer_jax.training.objectives import (
    DenoisingObjective,
    EnergyForceObjective,
    Objective,
    RelaxationObjective,
    ScalarTargetObjective,
)
from equiformer_jax.training.optimizer import make_optimizer
from equiformer_jax.training.schedule import cosine_epoch_schedule, warmup_cosine_step_schedule

Settings = Mapping[str, Any]

OBJECTIVES: Mapping[str, type] = {
    "energy_forces": EnergyForceObjective,
    "scalar_target": ScalarTargetObjective,
    "relaxation": RelaxationObjective,
    "denoising": DenoisingObjective,
}
AUGMENTATIONS: Mapping[str, type] = {
    "interpolation": RelaxationInterpolation,
    "denoising": DenoisingCorruption,
}


@dataclasses.dataclass(frozen=True)
class RunLength:
    """How long a run is.

    Attributes:
      num_epochs: epochs of the whole run.
      steps_per_epoch: steps in each.
    """

    num_epochs: int
    steps_per_epoch: int

    @property
    def total_steps(self) -> int:
        """Steps of the whole run."""
        return self.num_epochs * self.steps_per_epoch


def build_objective(
    settings: Settings, std: float, length: RunLength, augmentation: Augmentation | None = None
) -> Objective:
    """The objective of `config.objective`.

    What follows from other parts is filled in: the standard deviation, the length of the run, and
    the noise of a denoising augmentation.

    Args:
      settings: `kind`, one of `OBJECTIVES`, and fields of that class.
      std: one unit of the network, in eV or the target's unit.
      length: of the run.
      augmentation: of the same run.

    Raises:
      ValueError: the kind or a field is unknown, or a value does not fit; names it.
    """
    known = {"energy_std": std, "std": std, **dataclasses.asdict(length)}
    known["total_steps"] = length.total_steps
    if isinstance(augmentation, DenoisingCorruption):
        known["noise_std"] = augmentation.std
    return _build("objective", settings, OBJECTIVES, known)


def build_augmentation(settings: Settings | None) -> Augmentation | None:
    """The augmentation of `config.augmentation`; None without that part.

    Args:
      settings: `kind`, one of `AUGMENTATIONS`, and fields of that class.

    Raises:
      ValueError: the kind or a field is unknown; names it.
    """
    return None if settings is None else _build("augmentation", settings, AUGMENTATIONS, {})


def build_schedule(settings: Settings, learning_rate: float, length: RunLength) -> optax.Schedule:
    """The learning rate of `config.schedule` as a function of the step.

    Args:
      settings: `kind` and the fields of that kind: `cosine_epochs` with `warmup_epochs`,
        `warmup_lr` and `min_lr` (SPEC §12.1), or `cosine_steps` with `warmup_epochs`,
        `warmup_factor` and `min_factor` (SPEC §12.4).
      learning_rate: the highest rate.
      length: of the run.

    Raises:
      ValueError: the kind or a field is unknown, or a value does not fit; names it.
    """
    values = dict(settings.items())
    kind = values.pop("kind", None)
    if kind == "cosine_epochs":
        _check_fields("schedule", values, {"warmup_epochs", "warmup_lr", "min_lr"})
        return cosine_epoch_schedule(
            learning_rate,
            num_epochs=length.num_epochs,
            steps_per_epoch=length.steps_per_epoch,
            **values,
        )
    if kind == "cosine_steps":
        _check_fields("schedule", values, {"warmup_epochs", "warmup_factor", "min_factor"})
        warmup_steps = round(values.pop("warmup_epochs") * length.steps_per_epoch)
        return warmup_cosine_step_schedule(
            learning_rate, warmup_steps, length.total_steps, **values
        )
    raise ValueError(f"config.schedule.kind={kind!r}; known are ['cosine_epochs', 'cosine_steps']")


def build_optimizer(settings: Settings, schedule: optax.Schedule) -> optax.GradientTransformation:
    """The optimizer of `config.optimizer`.

    Args:
      settings: `weight_decay`, `clip_norm` and `freeze`, as `optimizer.make_optimizer` has them.
      schedule: the learning rate.
    """
    return make_optimizer(
        schedule,
        settings["weight_decay"],
        clip_norm=settings["clip_norm"],
        freeze=tuple(settings["freeze"]),
    )


def build_average(settings: Settings) -> ParameterAverage | None:
    """The moving average of `config.optimizer.ema_decay`; None without a decay."""
    decay = settings["ema_decay"]
    return None if decay is None else ParameterAverage(decay)


def label_of(data: Settings) -> tuple[str, str]:
    """What the one number of each structure is, and its unit.

    Args:
      data: `config.data`.

    Raises:
      ValueError: the target is unknown.
    """
    if data["name"] == "qm9":
        target = find_target(data["options"]["target"])
        return target.name, target.unit
    return "energy", "eV"


def _build(
    part: str, settings: Settings, kinds: Mapping[str, type], known: Mapping[str, Any]
) -> Any:
    values = dict(settings.items())
    kind = values.pop("kind", None)
    if kind not in kinds:
        raise ValueError(f"config.{part}.kind={kind!r}; known are {sorted(kinds)}")
    fields = {field.name for field in dataclasses.fields(kinds[kind])}
    _check_fields(part, values, fields - known.keys())
    filled = {name: value for name, value in known.items() if name in fields}
    try:
        return kinds[kind](**values, **filled)
    except ValueError as error:
        raise ValueError(f"config.{part}: {error}") from error


def _check_fields(part: str, values: Settings, allowed: set[str]) -> None:
    unknown = sorted(values.keys() - allowed)
    if unknown:
        raise ValueError(f"config.{part}: unknown fields {unknown}; known are {sorted(allowed)}")

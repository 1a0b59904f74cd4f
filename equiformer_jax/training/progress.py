"""What a person sees while a run goes on: plain lines, which also read well in a log file."""

from __future__ import annotations

import collections
from collections.abc import Mapping
from typing import Any

import jax
from jax.sharding import Mesh

from equiformer_jax.training.metric_names import MARK, quantity_of_metric
from equiformer_jax.training.metrics import format_duration


def say(line: str) -> None:
    """Prints a line at once, on the first process only."""
    if jax.process_index() == 0:
        print(line, flush=True)


def describe_devices(mesh: Mesh) -> str:
    """Says on what the run computes, such as `2 x cpu` or `1 x NVIDIA H100`."""
    kinds = collections.Counter(device.device_kind for device in mesh.devices.flat)
    return ", ".join(f"{count} x {kind}" for kind, count in kinds.items())


def epoch_line(record: Mapping[str, Any], num_epochs: int, seconds_left: float) -> str:
    """One line for an epoch: loss, errors of both splits, rate, speed and time left.

    Args:
      record: the epoch's numbers, as the trainer writes them to `metrics.jsonl`.
      num_epochs: epochs of the whole run.
      seconds_left: estimate for the rest.
    """
    parts = [
        f"epoch {record['epoch']:>{len(str(num_epochs))}}/{num_epochs}",
        f"loss {record['loss']:.3g}",
        f"train {_errors(record, 'train_')}",
        f"validation {_errors(record, 'validation_')}",
        f"rate {record['learning_rate']:.1e}",
        f"{record['structures_per_second']:.1f} structures/s",
        f"{format_duration(seconds_left)} left",
    ]
    return " | ".join(parts)


def step_line(record: Mapping[str, Any], steps_per_epoch: int, seconds_left: float) -> str:
    """One line inside an epoch: loss, errors, rate, speed and time left.

    Args:
      record: numbers since the last such line.
      steps_per_epoch: steps of a whole epoch.
      seconds_left: estimate for the rest of the run.
    """
    parts = [
        f"  step {record['step']} ({record['step_of_epoch']}/{steps_per_epoch})",
        f"loss {record['loss']:.3g}",
        _errors(record, "train_"),
        f"rate {record['learning_rate']:.1e}",
        f"{record['structures_per_second']:.1f} structures/s",
        f"{format_duration(seconds_left)} left",
    ]
    return " | ".join(parts)


def readable_metric(name: str, value: float) -> str | None:
    """`energy 12.3 meV` for a mean absolute error, going by its name; None for another metric."""
    quantity = quantity_of_metric(name)
    if quantity is None:
        return None
    return f"{name.partition(MARK)[0]} {value:.4g} {quantity.unit}"


def _errors(record: Mapping[str, Any], prefix: str) -> str:
    """Every metric of a split, such as `energy 12.3 meV, force 45.6 meV/Å`."""
    shown = [
        readable_metric(name.removeprefix(prefix), value)
        for name, value in record.items()
        if name.startswith(prefix)
    ]
    return ", ".join(filter(None, shown))

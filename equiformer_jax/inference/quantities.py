"""Numbers and units of errors as people read them."""

from __future__ import annotations

import math

from equiformer_jax.training.evaluation import Evaluation
from equiformer_jax.training.metric_names import MARK, readable_unit

_EV, _MILLI_EV, _MILLI = "eV", "meV", 1000.0
_LARGEST_WITHOUT_DECIMALS, _DIGITS = 100, 3


def label_error_unit(evaluation: Evaluation) -> tuple[float, str]:
    """The unit in which errors of the label of each structure are told.

    Returns:
      What errors in `evaluation.energy_unit` are multiplied by, and the unit that they then have:
      meV for what is in eV, unless a metric of the label is in eV.
    """
    unit = readable_unit(evaluation.energy_unit)
    if unit != _EV or f"{evaluation.label}{MARK}ev" in evaluation.metrics:
        return 1.0, unit
    return _MILLI, _MILLI_EV


def readable(value: float) -> str:
    """About three digits, never an exponent: `1,234`, `56.7`, `0.0460`."""
    size = abs(value)
    if not math.isfinite(size) or size >= _LARGEST_WITHOUT_DECIMALS:
        return f"{value:,.0f}"
    if size == 0:
        return "0"
    return f"{value:.{_DIGITS - 1 - math.floor(math.log10(size))}f}"

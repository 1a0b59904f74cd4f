"""What metrics are called and measured in, for people; and numbers as people read them."""

from __future__ import annotations

import math
from typing import NamedTuple

from equiformer_jax.training.evaluation import Evaluation

# Between what a mean absolute error is of and its unit, in the name of a metric.
_MARK = "_mae_"

_TITLES = {
    "energy": "Energy",
    "force": "Forces",
    "stress": "Stress",
    "displacement": "Displacement",
    "noise": "Noise",
    "mu": "Dipole moment μ",
    "alpha": "Polarizability α",
    "homo": "HOMO energy",
    "lumo": "LUMO energy",
    "gap": "HOMO–LUMO gap",
    "r2": "Spatial extent ⟨R²⟩",
    "zpve": "Zero-point energy",
    "u0": "Internal energy U₀",
    "u298": "Internal energy U",
    "h298": "Enthalpy H",
    "g298": "Free energy G",
    "cv": "Heat capacity Cᵥ",
}
_UNITS = {
    "mev": "meV",
    "ev": "eV",
    "mev_per_angstrom": "meV/Å",
    "mev_per_cubic_angstrom": "meV/Å³",
    "angstrom": "Å",
    "debye": "D",
    "bohr3": "bohr³",
    "a0^3": "bohr³",
    "bohr2": "bohr²",
    "a0^2": "bohr²",
    "cal_per_mol_kelvin": "cal/(mol K)",
}
_EV, _MILLI_EV, _MILLI = "eV", "meV", 1000.0
_LARGEST_WITHOUT_DECIMALS, _DIGITS = 100, 3


class Quantity(NamedTuple):
    """Something that is predicted.

    Attributes:
      title: its name, such as `Forces`.
      unit: of its errors, such as `meV/Å`.
    """

    title: str
    unit: str


def quantity_of_metric(name: str) -> Quantity | None:
    """What a metric is the mean absolute error of; `None` if it is none, going by its name.

    Args:
      name: as in `metrics.jsonl`, without the split: `force_mae_mev_per_angstrom`.
    """
    label, mark, unit = name.partition(_MARK)
    return Quantity(title_of_label(label), readable_unit(unit)) if mark else None


def title_of_label(label: str) -> str:
    """What a label is called: `force` is `Forces`; an unknown one is called by its name."""
    return _TITLES.get(label, label)


def readable_unit(unit: str) -> str:
    """A unit as it is written: `mev_per_angstrom` and `a0^3` are `meV/Å` and `bohr³`."""
    return _UNITS.get(unit, unit)


def label_error_unit(evaluation: Evaluation) -> tuple[float, str]:
    """The unit in which errors of the label of each structure are told.

    Returns:
      What errors in `evaluation.energy_unit` are multiplied by, and the unit that they then have:
      meV for what is in eV, unless a metric of the label is in eV.
    """
    unit = readable_unit(evaluation.energy_unit)
    if unit != _EV or f"{evaluation.label}{_MARK}ev" in evaluation.metrics:
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

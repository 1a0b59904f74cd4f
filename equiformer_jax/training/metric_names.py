"""What metrics are called and measured in, for people."""

from __future__ import annotations

from typing import NamedTuple

# Between what a mean absolute error is of and its unit, in the name of a metric.
MARK = "_mae_"

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
    label, mark, unit = name.partition(MARK)
    return Quantity(title_of_label(label), readable_unit(unit)) if mark else None


def title_of_label(label: str) -> str:
    """What a label is called: `force` is `Forces`; an unknown one is called by its name."""
    return _TITLES.get(label, label)


def readable_unit(unit: str) -> str:
    """A unit as it is written: `mev_per_angstrom` and `a0^3` are `meV/Å` and `bohr³`."""
    return _UNITS.get(unit, unit)

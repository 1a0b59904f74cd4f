"""What the labels are called in files that a user brings, and in which units they stand there."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from equiformer_jax.data.units import EV_PER_KCAL_MOL

# Constants of CODATA 2014, as in `equiformer_jax.data.units`.
_EV_PER_HARTREE = 27.211386024367243
_ANGSTROM_PER_BOHR = 0.5291772105638411

ENERGY_UNITS = {
    "eV": 1.0,
    "meV": 1e-3,
    "kcal/mol": EV_PER_KCAL_MOL,
    "kJ/mol": EV_PER_KCAL_MOL / 4.184,
    "hartree": _EV_PER_HARTREE,
    "rydberg": _EV_PER_HARTREE / 2,
}
FORCE_UNITS = {
    **{f"{name}/A": factor for name, factor in ENERGY_UNITS.items()},
    "hartree/bohr": _EV_PER_HARTREE / _ANGSTROM_PER_BOHR,
    "rydberg/bohr": _EV_PER_HARTREE / 2 / _ANGSTROM_PER_BOHR,
}
STRESS_UNITS = {
    "eV/A^3": 1.0,
    "GPa": 0.006241509125883258,
    "kbar": 0.0006241509125883258,
    "hartree/bohr^3": _EV_PER_HARTREE / _ANGSTROM_PER_BOHR**3,
}
STRESS_KINDS = ("stress", "pressure", "virial")

_KEY_FIELDS = (
    "energy",
    "forces",
    "stress",
    "tags",
    "fixed",
    "relaxed_positions",
    "relaxed_energy",
)


@dataclasses.dataclass(frozen=True)
class LabelKeys:
    """Names and units of the labels of a file, as ASE gives them when it has read the file.

    The default names are optional: their labels may be absent, but then from every structure. A
    name that is not the default must be there in every structure. None leaves the label out.

    ASE itself converts what a format defines in other units (such as VASP's), and calls the columns
    `charge` and `mass` of an extxyz file `charges` and `masses`.

    Attributes:
      energy: the total energy, in `energy_unit`.
      forces: `[N, 3]`, in `force_unit`.
      stress: `[3, 3]`, nine numbers or Voigt's six (xx, yy, zz, yz, xz, xy), see `stress_kind`.
      tags: `[N]` whole numbers.
      fixed: `[N]`, 1 for atoms that a relaxation does not move. Without it they are taken from the
        constraints that ASE reads.
      relaxed_positions: `[N, 3]`, Å.
      relaxed_energy: in `energy_unit`.
      per_atom: more arrays `[N, ...]`, such as `charges`, to be carried in `Structure.properties`
        as they are. All of them are required.
      energy_unit: one of `ENERGY_UNITS`.
      force_unit: one of `FORCE_UNITS`; if not given, `energy_unit` per Å.
      stress_unit: one of `STRESS_UNITS`; not used for a virial, which is in `energy_unit`.
      stress_kind: "stress", positive under tension; "pressure", the same with the opposite sign;
        or "virial", which is -stress times the volume of the cell.

    Raises:
      ValueError: a unit or kind is unknown, or a name is empty or given twice.
    """

    energy: str | None = "energy"
    forces: str | None = "forces"
    stress: str | None = "stress"
    tags: str | None = "tags"
    fixed: str | None = None
    relaxed_positions: str | None = "relaxed_positions"
    relaxed_energy: str | None = "relaxed_energy"
    per_atom: tuple[str, ...] = ()
    energy_unit: str = "eV"
    force_unit: str | None = None
    stress_unit: str = "eV/A^3"
    stress_kind: str = "stress"

    def __post_init__(self) -> None:
        """Refuses unknown units and impossible names."""
        if isinstance(self.per_atom, str):
            raise ValueError(f"per_atom: expected a tuple of names, got {self.per_atom!r}")
        object.__setattr__(self, "per_atom", tuple(self.per_atom))
        _check_choice("energy_unit", self.energy_unit, ENERGY_UNITS)
        if self.force_unit is not None:
            _check_choice("force_unit", self.force_unit, FORCE_UNITS)
        _check_choice("stress_unit", self.stress_unit, STRESS_UNITS)
        _check_choice("stress_kind", self.stress_kind, STRESS_KINDS)
        for field, key in self.names.items():
            if not isinstance(key, str) or not key:
                raise ValueError(f"{field}: expected a name or None, got {key!r}")
        if len(set(self.all_keys)) != len(self.all_keys):
            raise ValueError(f"the same name is given twice: {list(self.all_keys)}")

    @property
    def names(self) -> dict[str, str]:
        """Fields of a `Structure` -> what the file calls them, without those left out."""
        keys = {field: getattr(self, field) for field in _KEY_FIELDS}
        return {field: key for field, key in keys.items() if key is not None}

    @property
    def all_keys(self) -> tuple[str, ...]:
        """Every name to look for."""
        return (*self.names.values(), *self.per_atom)

    @property
    def required(self) -> tuple[str, ...]:
        """The names that must be there: those that are not the default."""
        defaults = {field.name: field.default for field in dataclasses.fields(self)}
        chosen = (key for field, key in self.names.items() if key != defaults[field])
        return (*chosen, *self.per_atom)

    @property
    def energy_factor(self) -> float:
        """EV per unit of the energies."""
        return ENERGY_UNITS[self.energy_unit]

    @property
    def force_factor(self) -> float:
        """EV/Å per unit of the forces."""
        return FORCE_UNITS[self.force_unit or f"{self.energy_unit}/A"]

    def stress_factor(self, volume: float) -> float:
        """What turns the numbers of the file into eV/Å³, positive under tension.

        Args:
          volume: of the cell, Å³; only used for a virial.
        """
        if self.stress_kind == "virial":
            return -self.energy_factor / volume
        sign = -1.0 if self.stress_kind == "pressure" else 1.0
        return sign * STRESS_UNITS[self.stress_unit]


def _check_choice(name: str, value: str, known: Iterable[str]) -> None:
    if value not in known:
        raise ValueError(f"{name}: expected one of {list(known)}, got {value!r}")

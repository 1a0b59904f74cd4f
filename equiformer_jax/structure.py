"""`Structure`: one atomistic system on the host, the only thing that a reader returns.

Units are Å, eV, eV/Å and eV/Å³ everywhere; whoever makes a `Structure` converts to them. Arrays are
NumPy's, floats float64, so that nothing is lost before the network's precision is chosen.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import ase
import numpy as np
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms
from ase.stress import full_3x3_to_voigt_6_stress, voigt_6_to_full_3x3_stress

LARGEST_ATOMIC_NUMBER = 118

# Labels that ASE keeps in `Atoms.info` or `Atoms.arrays` and that have a field of their own here.
_LABELS = ("energy", "forces", "stress", "relaxed_positions", "relaxed_energy")


@dataclasses.dataclass(frozen=True, eq=False)
class Structure:
    """One atomistic system: what it is made of, and whatever is known about it.

    Every array is copied, brought to the type given here and made read-only.

    Attributes:
        positions: float64 [N, 3], Å. They may lie outside the cell.
        atomic_numbers: int32 [N], from 1 to 118.
        cell: float64 [3, 3], Å, one lattice vector per row, or None.
        pbc: whether the system repeats along each of the three lattice vectors.
        energy: eV.
        forces: float64 [N, 3], eV/Å.
        stress: float64 [3, 3], eV/Å³; positive under tension, as in ASE.
        tags: int32 [N]; in OC20 0 is below the surface, 1 surface, 2 adsorbate.
        relaxed_positions: float64 [N, 3], Å, of the same system after relaxation.
        relaxed_energy: eV, of the same system after relaxation.
        fixed: bool [N], atoms that a relaxation does not move.
        properties: anything else, by name; not looked at.

    Raises:
        ValueError: a field has the wrong shape, is not finite or does not fit the others. The
            message starts with the field's name.
    """

    positions: np.ndarray
    atomic_numbers: np.ndarray
    cell: np.ndarray | None = None
    pbc: tuple[bool, bool, bool] = (False, False, False)
    energy: float | None = None
    forces: np.ndarray | None = None
    stress: np.ndarray | None = None
    tags: np.ndarray | None = None
    relaxed_positions: np.ndarray | None = None
    relaxed_energy: float | None = None
    fixed: np.ndarray | None = None
    properties: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        """Brings every field to its type and refuses what does not fit."""
        positions = _float_array("positions", self.positions, (None, 3))
        num_atoms = len(positions)
        if num_atoms == 0:
            raise ValueError("positions: a structure needs at least one atom, got none")
        converted = {
            "positions": positions,
            "atomic_numbers": _atomic_numbers(self.atomic_numbers, num_atoms),
            "cell": _optional(_float_array, "cell", self.cell, (3, 3)),
            "pbc": _periodicity(self.pbc),
            "energy": _optional(_finite_number, "energy", self.energy),
            "forces": _optional(_float_array, "forces", self.forces, (num_atoms, 3)),
            "stress": _optional(_float_array, "stress", self.stress, (3, 3)),
            "tags": _optional(_integer_array, "tags", self.tags, (num_atoms,)),
            "relaxed_positions": _optional(
                _float_array, "relaxed_positions", self.relaxed_positions, (num_atoms, 3)
            ),
            "relaxed_energy": _optional(_finite_number, "relaxed_energy", self.relaxed_energy),
            "fixed": _optional(_bool_array, "fixed", self.fixed, (num_atoms,)),
            "properties": dict(self.properties),
        }
        for name, value in converted.items():
            object.__setattr__(self, name, value)
        _check_lattice(self.cell, self.pbc)

    @property
    def num_atoms(self) -> int:
        """The number of atoms, N."""
        return len(self.positions)

    @property
    def is_periodic(self) -> bool:
        """Whether the system repeats along at least one lattice vector."""
        return any(self.pbc)


def structure_from_ase(atoms: ase.Atoms) -> Structure:
    """Reads an `ase.Atoms`.

    Energy, forces and stress are the results that the attached calculator already holds for these
    very positions (nothing is calculated), else `info["energy"]`, `arrays["forces"]` and
    `info["stress"]` (3x3, nine numbers or Voigt's six). Atoms under a `FixAtoms` constraint are
    `fixed`; what else is in `info` becomes `properties`. Velocities, magnetic moments and other
    constraints have no place in a `Structure`.

    Args:
        atoms: positions in Å, energies in eV, stress in eV/Å³, as ASE has them.

    Raises:
        ValueError: as `Structure`.
    """
    labels = {**_select(atoms.info, _LABELS), **_select(atoms.arrays, _LABELS)}
    labels.update(_select(_current_results(atoms), ("energy", "forces", "stress")))
    if "stress" in labels:
        labels["stress"] = _full_stress(labels["stress"])
    return Structure(
        positions=atoms.positions,
        atomic_numbers=atoms.numbers,
        cell=np.array(atoms.cell) if np.any(atoms.cell) else None,
        pbc=tuple(atoms.pbc),
        tags=atoms.get_tags() if atoms.has("tags") else None,
        fixed=_fixed_atoms(atoms),
        properties={key: value for key, value in atoms.info.items() if key not in _LABELS},
        **labels,
    )


def structure_to_ase(structure: Structure) -> ase.Atoms:
    """Gives the structure as an `ase.Atoms`, the inverse of `structure_from_ase`.

    Energy, forces and stress come as a `SinglePointCalculator`, `fixed` as a `FixAtoms`
    constraint, `relaxed_positions` in `arrays`, `relaxed_energy` and `properties` in `info`.

    Args:
        structure: any structure.
    """
    atoms = ase.Atoms(
        numbers=structure.atomic_numbers,
        positions=structure.positions,
        cell=structure.cell,
        pbc=structure.pbc,
        tags=structure.tags,
        info=dict(structure.properties),
    )
    if structure.relaxed_positions is not None:
        atoms.new_array("relaxed_positions", structure.relaxed_positions)
    if structure.relaxed_energy is not None:
        atoms.info["relaxed_energy"] = structure.relaxed_energy
    if structure.fixed is not None:
        atoms.set_constraint(FixAtoms(mask=structure.fixed))
    results: dict[str, Any] = {}
    if structure.energy is not None:
        results["energy"] = structure.energy
    if structure.forces is not None:
        results["forces"] = structure.forces.copy()
    if structure.stress is not None:
        results["stress"] = full_3x3_to_voigt_6_stress(structure.stress)
    if results:
        atoms.calc = SinglePointCalculator(atoms, **results)
    return atoms


def _optional(convert: Any, name: str, value: Any, *shape: Any) -> Any:
    return None if value is None else convert(name, value, *shape)


def _read_only(array: np.ndarray) -> np.ndarray:
    array.flags.writeable = False
    return array


def _shape_text(shape: tuple[int | None, ...]) -> str:
    return "[" + ", ".join("N" if size is None else str(size) for size in shape) + "]"


def _numeric_array(name: str, value: Any, shape: tuple[int | None, ...]) -> np.ndarray:
    """float64 copy of `value`, with `shape` (None: any size)."""
    try:
        array = np.array(value, np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name}: expected numbers of shape {_shape_text(shape)}") from error
    fits = array.ndim == len(shape) and all(
        expected in (None, size) for size, expected in zip(array.shape, shape, strict=True)
    )
    if not fits:
        found = _shape_text(array.shape)
        raise ValueError(f"{name}: expected shape {_shape_text(shape)}, got {found}")
    return array


def _float_array(name: str, value: Any, shape: tuple[int | None, ...]) -> np.ndarray:
    array = _numeric_array(name, value, shape)
    if not np.all(np.isfinite(array)):
        row = int(np.flatnonzero(~np.isfinite(array).all(axis=1))[0])
        kind = "lattice vector" if name == "cell" else "row" if name == "stress" else "atom"
        raise ValueError(f"{name}: {kind} {row} is not finite: {array[row].tolist()}")
    return _read_only(array)


def _integer_array(name: str, value: Any, shape: tuple[int | None, ...]) -> np.ndarray:
    """int32 copy; whole numbers stored as floats (as OC20 does) are taken."""
    array = _numeric_array(name, value, shape)
    wrong = np.flatnonzero(array != np.trunc(array))  # also true for nan
    if len(wrong):
        index = int(wrong[0])
        raise ValueError(f"{name}: atom {index}: expected a whole number, got {array[index]}")
    return _read_only(array.astype(np.int32))


def _bool_array(name: str, value: Any, shape: tuple[int | None, ...]) -> np.ndarray:
    array = _numeric_array(name, value, shape)
    wrong = np.flatnonzero((array != 0) & (array != 1))
    if len(wrong):
        index = int(wrong[0])
        raise ValueError(f"{name}: atom {index}: expected true or false, got {array[index]}")
    return _read_only(array.astype(bool))


def _atomic_numbers(value: Any, num_atoms: int) -> np.ndarray:
    numbers = _integer_array("atomic_numbers", value, (num_atoms,))
    wrong = np.flatnonzero((numbers < 1) | (numbers > LARGEST_ATOMIC_NUMBER))
    if len(wrong):
        index = int(wrong[0])
        raise ValueError(
            f"atomic_numbers: atom {index}: expected 1 to {LARGEST_ATOMIC_NUMBER}, "
            f"got {numbers[index]}"
        )
    return numbers


def _finite_number(name: str, value: Any) -> float:
    try:
        number = float(np.asarray(value, np.float64).reshape(()))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name}: expected one number, got {value!r}") from error
    if not np.isfinite(number):
        raise ValueError(f"{name}: not finite: {number}")
    return number


def _periodicity(value: Any) -> tuple[bool, bool, bool]:
    flags = np.asarray(value)
    if flags.shape not in ((), (3,)) or not np.all((flags == 0) | (flags == 1)):
        raise ValueError(f"pbc: expected three booleans (or one for all), got {value!r}")
    first, second, third = np.broadcast_to(flags.astype(bool), 3).tolist()
    return first, second, third


def _check_lattice(cell: np.ndarray | None, pbc: tuple[bool, bool, bool]) -> None:
    """Periodic directions need lattice vectors that span them."""
    if not any(pbc):
        return
    if cell is None:
        raise ValueError(f"cell: needed because pbc is {pbc}, got None")
    periodic = cell[list(pbc)]
    lengths = np.linalg.norm(periodic, axis=1)
    flat = not lengths.all() or np.linalg.matrix_rank(periodic / lengths[:, None]) < len(periodic)
    if flat:
        raise ValueError(
            f"cell: its periodic vectors must be independent, got {cell.tolist()} with pbc {pbc}"
        )


def _select(mapping: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {name: mapping[name] for name in names if mapping.get(name) is not None}


def _current_results(atoms: ase.Atoms) -> Mapping[str, Any]:
    """What the calculator holds for these very atoms; results of an earlier geometry are stale."""
    results = getattr(atoms.calc, "results", {})
    check_state = getattr(atoms.calc, "check_state", None)
    return {} if check_state is not None and check_state(atoms) else results


def _full_stress(stress: Any) -> np.ndarray:
    """[3, 3] from [3, 3], [9] or Voigt's [6] (xx, yy, zz, yz, xz, xy)."""
    stress = np.asarray(stress, np.float64)
    if stress.shape == (6,):
        return voigt_6_to_full_3x3_stress(stress)
    return stress.reshape(3, 3) if stress.shape == (9,) else stress


def _fixed_atoms(atoms: ase.Atoms) -> np.ndarray | None:
    fixes = [constraint for constraint in atoms.constraints if isinstance(constraint, FixAtoms)]
    if not fixes:
        return None
    fixed = np.zeros(len(atoms), bool)
    for constraint in fixes:
        fixed[constraint.get_indices()] = True
    return fixed

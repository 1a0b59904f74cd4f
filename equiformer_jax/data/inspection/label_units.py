"""Labels in the wrong unit, told by their magnitude."""

from __future__ import annotations

from collections.abc import Iterable

import ase.units
import numpy as np

from equiformer_jax.data.inspection.facts import SplitFacts

# Total energies of free atoms, eV, within a percent for any all-electron method: what molecules of
# these elements have in sum, up to bonds that are a thousandth of it.
_ATOM_ENERGIES = {1: -13.6, 6: -1029.0, 7: -1485.0, 8: -2042.0, 9: -2713.0, 16: -10831.0}

# What one eV is in the unit, by the unit's name.
_ENERGY_UNITS = {
    "hartree": 1 / ase.units.Hartree,
    "kcal/mol": ase.units.mol / ase.units.kcal,
    "kJ/mol": ase.units.mol / ase.units.kJ,
    "meV": 1000.0,
    "rydberg": 1 / ase.units.Rydberg,
}
_TOLERANCE = 0.04

# Root mean square force components, eV/Å, of geometries that were sampled at some temperature lie
# far inside these bounds (0.5 to 3); relaxed geometries lie below.
_LARGEST_FORCE = 10.0
_SMALLEST_FORCE = 0.05


def suspected_units(facts: SplitFacts) -> list[str]:
    """Sentences about labels that seem to have another unit than eV and eV/Å.

    Args:
      facts: those of a split.
    """
    return [*_energies(facts), *_forces(facts)]


def _energies(facts: SplitFacts) -> Iterable[str]:
    energies = facts.column("energy")
    elements = np.flatnonzero(facts.composition).tolist()
    if not len(energies) or np.isnan(energies).any() or not set(elements) <= _ATOM_ENERGIES.keys():
        return
    expected = sum(facts.composition[number] * _ATOM_ENERGIES[number] for number in elements)
    ratio = float(energies.sum() / expected)
    for unit, per_ev in _ENERGY_UNITS.items():
        if abs(ratio / per_ev - 1) < _TOLERANCE:
            yield (
                f"energies look like {unit}: their sum is {ratio:.4g} of the total energy of the "
                f"atoms in eV, and one eV is {per_ev:.4g} {unit}"
            )


def _forces(facts: SplitFacts) -> Iterable[str]:
    rms = facts.column("force_rms")
    rms = rms[~np.isnan(rms)]
    if not len(rms):
        return
    typical = float(np.median(rms))
    if typical > _LARGEST_FORCE:
        yield (
            f"forces have a typical component of {typical:.3g} eV/Å, far more than at any usual "
            "temperature; kcal/mol/Å would be 23 times the right number"
        )
    elif 0 < typical < _SMALLEST_FORCE:
        yield (
            f"forces have a typical component of {typical:.3g} eV/Å, as in relaxed geometries; if "
            "these were sampled at a temperature, hartree/bohr would be 1/51 of the right number"
        )

from __future__ import annotations

import ase.units
import pytest

from equiformer_jax.data.readers.label_keys import (
    ENERGY_UNITS,
    FORCE_UNITS,
    STRESS_UNITS,
    LabelKeys,
)


@pytest.mark.parametrize(
    ("table", "name", "value"),
    [
        (ENERGY_UNITS, "eV", ase.units.eV),
        (ENERGY_UNITS, "meV", ase.units.eV / 1000),
        (ENERGY_UNITS, "kcal/mol", ase.units.kcal / ase.units.mol),
        (ENERGY_UNITS, "kJ/mol", ase.units.kJ / ase.units.mol),
        (ENERGY_UNITS, "hartree", ase.units.Hartree),
        (ENERGY_UNITS, "rydberg", ase.units.Rydberg),
        (FORCE_UNITS, "hartree/bohr", ase.units.Hartree / ase.units.Bohr),
        (FORCE_UNITS, "rydberg/bohr", ase.units.Rydberg / ase.units.Bohr),
        (FORCE_UNITS, "kcal/mol/A", ase.units.kcal / ase.units.mol),
        (STRESS_UNITS, "eV/A^3", 1.0),
        (STRESS_UNITS, "GPa", ase.units.GPa),
        (STRESS_UNITS, "kbar", 1000 * ase.units.bar),
        (STRESS_UNITS, "hartree/bohr^3", ase.units.Hartree / ase.units.Bohr**3),
    ],
)
def test_units_are_those_of_ase(table, name, value):
    assert table[name] == pytest.approx(value, rel=1e-9)


def test_the_unit_of_forces_follows_from_that_of_energies():
    assert LabelKeys(energy_unit="meV").force_factor == 1e-3
    assert LabelKeys(energy_unit="meV", force_unit="eV/A").force_factor == 1.0


def test_signs_and_volumes_of_stresses():
    assert LabelKeys(stress_unit="GPa").stress_factor(8.0) == STRESS_UNITS["GPa"]
    pressure = LabelKeys(stress_unit="GPa", stress_kind="pressure")
    assert pressure.stress_factor(8.0) == -STRESS_UNITS["GPa"]
    virial = LabelKeys(stress_kind="virial", energy_unit="meV")
    assert virial.stress_factor(8.0) == -1e-3 / 8


def test_only_names_that_were_chosen_are_required():
    assert LabelKeys().required == ()
    keys = LabelKeys(energy="REF_energy", forces="forces", stress=None, per_atom=("charges",))
    assert keys.required == ("REF_energy", "charges")
    assert "stress" not in keys.names


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"energy_unit": "ev"}, "energy_unit: expected one of .*'eV'.*, got 'ev'"),
        ({"force_unit": "eV"}, "force_unit: expected one of .*'eV/A'.*, got 'eV'"),
        ({"stress_unit": "Pa"}, "stress_unit: expected one of .*'GPa'.*, got 'Pa'"),
        ({"stress_kind": "tensile"}, "stress_kind: expected one of .*'virial'.*, got 'tensile'"),
        ({"energy": ""}, "energy: expected a name or None"),
        ({"per_atom": "charges"}, "per_atom: expected a tuple of names"),
        ({"forces": "energy"}, "the same name is given twice"),
    ],
)
def test_impossible_keys_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        LabelKeys(**arguments)

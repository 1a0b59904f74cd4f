"""`EquiformerCalculator`: what ASE asks for, in its units, in one program per system."""

from __future__ import annotations

import numpy as np
import pytest
from ase.calculators.calculator import PropertyNotImplementedError

import equiformer_jax as eqf
from equiformer_jax.inference.calculator import EquiformerCalculator
from tests.inference.small_potentials import crystal, molecules, tiny_config, tiny_potential


@pytest.fixture(scope="module")
def calculator():
    return EquiformerCalculator(tiny_potential(tiny_config("md17_l2", max_radius=3.0)))


def assert_close(atoms, found, tolerance=1e-4):
    scale = max(1.0, np.abs(found.forces).max())
    assert abs(atoms.get_potential_energy() - found.energy) < tolerance * scale
    assert np.abs(atoms.get_forces() - found.forces).max() < tolerance * scale


def test_a_crystal_has_energy_forces_and_stress(calculator):
    atoms = eqf.structure_to_ase(crystal())
    atoms.calc = calculator
    for _ in range(2):
        (found,) = calculator.potential([eqf.structure_from_ase(atoms)])
        assert_close(atoms, found)
        scale = np.abs(found.stress).max()
        assert np.abs(atoms.get_stress(voigt=False) - found.stress).max() < 1e-4 * scale
        atoms.set_cell(1.01 * atoms.cell, scale_atoms=True)
        atoms.rattle(0.02, seed=0)
    assert calculator.evaluator.compilations == 1


def test_another_system_gets_a_program_of_its_own(calculator):
    (molecule,) = molecules(1, largest=8)
    atoms = eqf.structure_to_ase(molecule)
    atoms.calc = calculator
    before = calculator.evaluator
    assert_close(atoms, calculator.potential([molecule])[0])
    assert calculator.evaluator is not before
    with pytest.raises(PropertyNotImplementedError):
        atoms.get_stress()


def test_what_no_evaluator_takes_goes_to_the_potential():
    potential = tiny_potential(tiny_config("md17_l2", max_radius=3.0, max_neighbors=2))
    atoms = eqf.structure_to_ase(molecules(1, seed=1, largest=8)[0])
    atoms.calc = EquiformerCalculator(potential)
    assert_close(atoms, potential([eqf.structure_from_ase(atoms)])[0], tolerance=1e-9)
    assert atoms.calc.evaluator is None

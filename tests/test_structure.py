from __future__ import annotations

import dataclasses
import pickle

import ase
import ase.build
import numpy as np
import pytest
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms

from equiformer_jax.structure import Structure, structure_from_ase, structure_to_ase

POSITIONS = [[0.0, 0.0, 0.0], [0.0, 0.0, 1.1]]
NUMBERS = [6, 8]


def complete_structure() -> Structure:
    """A structure with every field."""
    rng = np.random.default_rng(0)
    stress = rng.normal(size=(3, 3))
    return Structure(
        positions=POSITIONS,
        atomic_numbers=NUMBERS,
        cell=[[5.0, 0.0, 0.0], [1.0, 6.0, 0.0], [0.0, 2.0, 7.0]],
        pbc=(True, True, False),
        energy=-3.25,
        forces=rng.normal(size=(2, 3)),
        stress=stress + stress.T,
        tags=[0, 2],
        relaxed_positions=rng.normal(size=(2, 3)),
        relaxed_energy=-4.5,
        fixed=[True, False],
        properties={"name": "carbon monoxide", "dipole": 0.1},
    )


def assert_same_structure(actual: Structure, expected: Structure) -> None:
    for field in dataclasses.fields(Structure):
        np.testing.assert_equal(getattr(actual, field.name), getattr(expected, field.name))


def test_fields_have_their_types():
    structure = complete_structure()
    types = {
        "positions": np.float64,
        "atomic_numbers": np.int32,
        "cell": np.float64,
        "forces": np.float64,
        "stress": np.float64,
        "tags": np.int32,
        "relaxed_positions": np.float64,
        "fixed": np.bool_,
    }
    for name, expected in types.items():
        array = getattr(structure, name)
        assert array.dtype == expected, name
        assert not array.flags.writeable, name
    assert isinstance(structure.energy, float)
    assert isinstance(structure.relaxed_energy, float)
    assert structure.num_atoms == 2
    assert structure.is_periodic
    assert not Structure(POSITIONS, NUMBERS).is_periodic


def test_arrays_are_copies():
    positions = np.array(POSITIONS)
    structure = Structure(positions, NUMBERS)
    positions[:] = 9.0
    np.testing.assert_array_equal(structure.positions, POSITIONS)


def test_whole_numbers_as_floats_and_one_pbc_for_all_are_taken():
    structure = Structure(POSITIONS, np.float32([6, 8]), cell=np.eye(3), pbc=True)
    np.testing.assert_array_equal(structure.atomic_numbers, NUMBERS)
    assert structure.pbc == (True, True, True)


def test_replace_and_pickle():
    structure = complete_structure()
    open_structure = dataclasses.replace(structure, pbc=False)
    assert open_structure.pbc == (False, False, False)
    assert_same_structure(pickle.loads(pickle.dumps(structure)), structure)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"positions": [[0.0, 0.0], [1.0, 1.0]]}, r"positions: expected shape \[N, 3\].*\[2, 2\]"),
        ({"positions": [["a", "b", "c"]] * 2}, r"positions: expected numbers of shape"),
        ({"positions": np.zeros((0, 3)), "atomic_numbers": []}, "positions: .* at least one atom"),
        ({"positions": [[0, 0, 0], [0, np.nan, 0]]}, "positions: atom 1 is not finite"),
        ({"positions": [[np.inf, 0, 0], [0, 0, 0]]}, "positions: atom 0 is not finite"),
        ({"atomic_numbers": [6]}, r"atomic_numbers: expected shape \[2\], got \[1\]"),
        ({"atomic_numbers": [6, 0]}, "atomic_numbers: atom 1: expected 1 to 118, got 0"),
        ({"atomic_numbers": [119, 6]}, "atomic_numbers: atom 0: expected 1 to 118, got 119"),
        ({"atomic_numbers": [6, 7.5]}, "atomic_numbers: atom 1: expected a whole number, got 7.5"),
        ({"atomic_numbers": [6, np.nan]}, "atomic_numbers: atom 1: expected a whole number"),
        ({"cell": np.eye(2)}, r"cell: expected shape \[3, 3\], got \[2, 2\]"),
        ({"cell": np.full((3, 3), np.nan)}, "cell: lattice vector 0 is not finite"),
        ({"pbc": True}, "cell: needed because pbc is"),
        ({"pbc": (True, False)}, "pbc: expected three booleans"),
        ({"pbc": True, "cell": np.diag([1.0, 1.0, 0.0])}, "cell: its periodic vectors"),
        ({"pbc": True, "cell": np.ones((3, 3))}, "cell: its periodic vectors"),
        ({"energy": "low"}, "energy: expected one number, got 'low'"),
        ({"energy": [1.0, 2.0]}, "energy: expected one number"),
        ({"energy": np.nan}, "energy: not finite: nan"),
        ({"forces": np.zeros((3, 3))}, r"forces: expected shape \[2, 3\], got \[3, 3\]"),
        ({"forces": [[0, 0, 0], [0, 0, np.inf]]}, "forces: atom 1 is not finite"),
        ({"stress": np.zeros(6)}, r"stress: expected shape \[3, 3\], got \[6\]"),
        ({"tags": [0, 1, 2]}, r"tags: expected shape \[2\], got \[3\]"),
        ({"tags": [0, 0.5]}, "tags: atom 1: expected a whole number"),
        ({"relaxed_positions": np.zeros((1, 3))}, r"relaxed_positions: expected shape \[2, 3\]"),
        ({"relaxed_energy": np.inf}, "relaxed_energy: not finite"),
        ({"fixed": [True]}, r"fixed: expected shape \[2\], got \[1\]"),
        ({"fixed": [0, 3]}, "fixed: atom 1: expected true or false"),
    ],
)
def test_errors_name_the_field(fields, message):
    with pytest.raises(ValueError, match=message):
        Structure(**{"positions": POSITIONS, "atomic_numbers": NUMBERS, **fields})


def test_a_flat_cell_is_fine_where_nothing_repeats():
    Structure(POSITIONS, NUMBERS, cell=np.zeros((3, 3)))
    Structure(POSITIONS, NUMBERS, cell=np.diag([4.0, 4.0, 0.0]), pbc=(True, True, False))


def test_there_and_back_through_ase():
    structure = complete_structure()
    atoms = structure_to_ase(structure)
    assert atoms.get_potential_energy() == structure.energy
    np.testing.assert_array_equal(atoms.get_stress(voigt=False), structure.stress)
    np.testing.assert_array_equal(atoms.get_forces(apply_constraint=False), structure.forces)
    assert_same_structure(structure_from_ase(atoms), structure)


def test_a_bare_structure_there_and_back():
    structure = Structure(POSITIONS, NUMBERS)
    atoms = structure_to_ase(structure)
    assert atoms.calc is None
    assert not atoms.constraints
    assert_same_structure(structure_from_ase(atoms), structure)


def test_labels_of_a_calculator_come_before_info_and_are_not_calculated():
    atoms = ase.Atoms("CO", POSITIONS, info={"energy": 1.0, "charge": 0})
    atoms.calc = SinglePointCalculator(atoms, energy=2.0)
    structure = structure_from_ase(atoms)
    assert structure.energy == 2.0
    assert structure.properties == {"charge": 0}
    atoms = ase.build.bulk("Cu")
    atoms.calc = EMT()
    assert structure_from_ase(atoms).energy is None


def test_results_of_an_earlier_geometry_are_not_taken():
    atoms = ase.build.bulk("Cu", cubic=True)
    atoms.calc = EMT()
    energy = atoms.get_potential_energy()
    assert structure_from_ase(atoms).energy == energy
    atoms.positions[0] += 0.1
    assert structure_from_ase(atoms).energy is None


@pytest.mark.parametrize("form", ["matrix", "nine", "voigt"])
def test_forms_of_stress(form):
    matrix = np.array([[1.0, 6.0, 5.0], [6.0, 2.0, 4.0], [5.0, 4.0, 3.0]])
    stress = {"matrix": matrix, "nine": matrix.ravel(), "voigt": np.arange(1.0, 7.0)}[form]
    atoms = ase.Atoms("CO", POSITIONS, info={"stress": stress})
    np.testing.assert_array_equal(structure_from_ase(atoms).stress, matrix)


def test_fixed_atoms_and_tags_of_a_slab():
    slab = ase.build.fcc111("Pt", size=(2, 2, 3), vacuum=8.0)
    slab.set_constraint(FixAtoms(mask=slab.get_tags() == 3))
    structure = structure_from_ase(slab)
    assert structure.pbc == (True, True, False)
    np.testing.assert_array_equal(structure.tags, slab.get_tags())
    np.testing.assert_array_equal(structure.fixed, slab.get_tags() == 3)

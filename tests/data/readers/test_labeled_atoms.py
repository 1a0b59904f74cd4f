from __future__ import annotations

import ase
import numpy as np
import pytest
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms

from equiformer_jax.data.errors import DataError
from equiformer_jax.data.readers.label_keys import LabelKeys
from equiformer_jax.data.readers.labeled_atoms import AtomsConverter

FORCES = np.array([[1.0, 2, 3], [-1, -2, -3]])
STRESS = np.array([[1.0, 6, 5], [6, 2, 4], [5, 4, 3]])
VOIGT = [1.0, 2, 3, 4, 5, 6]


def atoms(results=None, info=None, arrays=None, **options):
    made = ase.Atoms("CO", [[0, 0, 0], [0, 0, 1.1]], cell=[2, 2, 2], pbc=True, **options)
    if results is not None:
        made.calc = SinglePointCalculator(made, **results)
    made.info = dict(info or {})
    for name, array in (arrays or {}).items():
        made.new_array(name, np.asarray(array))
    return made


def convert(made, **keys):
    return AtomsConverter("some.file", LabelKeys(**keys), made, "frame 0").convert(made, "frame 0")


def test_standard_labels_are_taken():
    made = convert(atoms({"energy": -5.0, "forces": FORCES, "stress": VOIGT}, tags=[0, 2]))
    assert made.energy == -5.0
    np.testing.assert_array_equal(made.forces, FORCES)
    np.testing.assert_array_equal(made.stress, STRESS)
    assert made.tags.tolist() == [0, 2]
    assert made.pbc == (True, True, True)


def test_nothing_is_taken_that_is_not_there_or_not_wanted():
    made = convert(atoms())
    assert (made.energy, made.forces, made.stress, made.tags) == (None, None, None, None)
    made = convert(
        atoms({"energy": -5.0, "forces": FORCES}, {"stress": VOIGT}, tags=[0, 2]),
        energy=None,
        forces=None,
        stress=None,
        tags=None,
    )
    assert (made.energy, made.forces, made.stress, made.tags) == (None, None, None, None)
    assert made.properties == {}


def test_chosen_names_win_over_standard_ones():
    made = atoms(
        {"energy": -5.0, "forces": 0 * FORCES},
        {"REF_energy": -7.0, "REF_stress": STRESS.ravel(), "temperature": 300},
        {"REF_forces": FORCES},
    )
    made = convert(made, energy="REF_energy", forces="REF_forces", stress="REF_stress")
    assert made.energy == -7.0
    np.testing.assert_array_equal(made.forces, FORCES)
    np.testing.assert_array_equal(made.stress, STRESS)
    assert made.properties == {"temperature": 300}


def test_units_are_converted():
    made = atoms({"energy": -5.0, "forces": FORCES, "stress": VOIGT}, {"relaxed_energy": -6.0})
    made = convert(made, energy_unit="meV", stress_unit="kbar", stress_kind="pressure")
    assert made.energy == -5e-3
    assert made.relaxed_energy == -6e-3
    np.testing.assert_allclose(made.forces, FORCES * 1e-3)
    np.testing.assert_allclose(made.stress, -STRESS * 6.241509e-4, rtol=1e-6)


@pytest.mark.parametrize("virial", [STRESS, STRESS.ravel(), VOIGT])
def test_a_virial_is_minus_the_stress_times_the_volume(virial):
    made = convert(atoms(info={"virial": virial}), stress="virial", stress_kind="virial")
    np.testing.assert_allclose(made.stress, -STRESS / 8)


def test_a_virial_needs_a_volume():
    made = ase.Atoms("C", info={"virial": VOIGT})
    with pytest.raises(DataError, match="frame 0: 'virial': a virial needs a lattice"):
        convert(made, stress="virial", stress_kind="virial")


def test_atoms_are_fixed_by_constraints_or_by_a_column():
    assert convert(atoms(constraint=FixAtoms([1]))).fixed.tolist() == [False, True]
    made = atoms(arrays={"frozen": [1, 0]}, constraint=FixAtoms([1]))
    assert convert(made, fixed="frozen").fixed.tolist() == [True, False]


def test_relaxed_structures_are_taken():
    arrays = {"final": np.ones((2, 3))}
    made = atoms(info={"y": -3.0}, arrays=arrays)
    made = convert(made, relaxed_positions="final", relaxed_energy="y")
    np.testing.assert_array_equal(made.relaxed_positions, arrays["final"])
    assert made.relaxed_energy == -3.0


def test_more_arrays_are_carried_from_wherever_ase_has_them():
    made = atoms({"charges": [0.5, -0.5]}, {"spins": [1, 2]}, {"mulliken": [[1.0, 2], [3, 4]]})
    made = convert(made, per_atom=("charges", "spins", "mulliken"))
    assert {name: array.tolist() for name, array in made.properties.items()} == {
        "charges": [0.5, -0.5],
        "spins": [1, 2],
        "mulliken": [[1, 2], [3, 4]],
    }


def test_a_missing_label_is_told_with_those_that_are_there():
    made = atoms({"energy": 1.0, "forces": FORCES}, {"dft_energy": 1.0})
    message = (
        r"some\.file: frame 0: 'REF_energy': not there; there are \['dft_energy', 'energy', 'f"
    )
    with pytest.raises(DataError, match=message):
        convert(made, energy="REF_energy")


@pytest.mark.parametrize("labels_first", [True, False])
def test_labels_of_some_structures_are_refused(labels_first):
    pair = [atoms({"energy": 1.0}), atoms({"energy": 1.0, "forces": FORCES})]
    first, second = reversed(pair) if labels_first else pair
    converter = AtomsConverter("some.file", LabelKeys(), first, "frame 3")
    without, other = ("frame 7", "frame 3") if labels_first else ("frame 3", "frame 7")
    message = f"some.file: {without}: 'forces': missing here, but {other} has it; expected in all"
    for use in (converter.check, converter.convert):
        with pytest.raises(DataError, match=message):
            use(second, "frame 7")


@pytest.mark.parametrize(
    ("info", "arrays", "message"),
    [
        ({"E": "high"}, {}, "'E': expected numbers, got 'high'"),
        ({"E": True}, {}, "'E': expected numbers, got 'True'"),
        ({"E": np.nan}, {}, "'E': not finite: nan"),
        ({"E": [1.0, 2.0]}, {}, "'E': expected one number"),
        ({}, {"F": FORCES[:, :2]}, r"'F': expected shape \[2, 3\], got \[2, 2\]"),
        ({}, {"F": FORCES * [[1], [np.inf]]}, r"'F': atom 1 is not finite"),
        ({"S": [1.0, 2, 3]}, {}, r"'S': expected 3x3, 9 or 6 numbers, got \[3\]"),
        ({"S": STRESS * np.nan}, {}, "'S': row 0 is not finite"),
        ({"q": [1.0]}, {}, "'q': expected one row for each of 2 atoms"),
        ({"q": [1.0, np.nan]}, {}, "'q': not finite"),
    ],
)
def test_impossible_labels_are_refused(info, arrays, message):
    made = atoms(info=info, arrays=arrays)
    chosen = {"E": "energy", "F": "forces", "S": "stress"}
    (name,) = (*info, *arrays)
    keys = {chosen[name]: name} if name in chosen else {"per_atom": (name,)}
    with pytest.raises(DataError, match=r"some\.file: frame 0: " + message):
        convert(made, **keys)


def test_impossible_structures_are_refused():
    with pytest.raises(DataError, match="frame 0: 'atomic_numbers': atom 1: expected 1 to 118"):
        convert(ase.Atoms("CX", [[0, 0, 0], [0, 0, 1]]))
    with pytest.raises(DataError, match="frame 0: 'positions': atom 0 is not finite"):
        convert(ase.Atoms("C", [[0, 0, np.nan]]))
    with pytest.raises(DataError, match="frame 0: 'cell': needed because pbc"):
        convert(ase.Atoms("C", pbc=True))

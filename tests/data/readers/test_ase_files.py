from __future__ import annotations

import gzip

import ase
import ase.db
import ase.io
import numpy as np
import pytest
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms

from equiformer_jax.data.errors import DataError
from equiformer_jax.data.readers.ase_database import DatabaseRows
from equiformer_jax.data.readers.ase_files import read_ase
from equiformer_jax.data.readers.extxyz import ExtxyzFrames
from equiformer_jax.data.readers.label_keys import LabelKeys
from tests.paths import REAL_DATA, needs_real_data


def crystal(number=0, labels=True):
    atoms = ase.Atoms("NaCl", [[0, 0, 0], [1, 2, 4 + 0.1 * number]], cell=[2, 4, 8], pbc=True)
    atoms.set_constraint(FixAtoms([0]))
    if labels:
        forces = np.full((2, 3), 0.5 + number)
        atoms.calc = SinglePointCalculator(
            atoms, energy=-3.0 - number, forces=forces, stress=np.arange(6.0)
        )
    return atoms


def bare(number=0):
    return ase.Atoms("NaCl", [[0, 0, 0], [1, 2, 4]], cell=[2, 4, 8], pbc=True)


@pytest.mark.parametrize("name", ["run.traj", "run.extxyz", "run.xyz", "run.xyz.gz", "run.db"])
def test_trajectories_are_read_with_their_labels(tmp_path, name):
    path = tmp_path / name
    if name == "run.db":
        with ase.db.connect(path) as database:
            for number in range(3):
                database.write(crystal(number))
    elif name == "run.xyz.gz":
        ase.io.write(tmp_path / "run.xyz", [crystal(n) for n in range(3)], format="extxyz")
        path.write_bytes(gzip.compress((tmp_path / "run.xyz").read_bytes()))
    else:
        images = [crystal(number) for number in range(3)]
        ase.io.write(path, images, format=None if name == "run.traj" else "extxyz")
    structures = read_ase(path)
    assert [structure.energy for structure in structures] == [-3, -4, -5]
    assert structures[2].forces[0].tolist() == [2.5] * 3
    assert structures[0].stress.tolist() == [[0, 5, 4], [5, 1, 3], [4, 3, 2]]
    assert structures[0].fixed.tolist() == [True, False]
    assert [structure.energy for structure in read_ase(path, index="1:")] == [-4, -5]
    last = read_ase(path, index="-1")
    assert last[0].energy == -5
    assert last.name_of(0).endswith("row 3" if name == "run.db" else "frame 2")


@pytest.mark.parametrize("name", ["POSCAR", "some.cif", "some.xsf", "some.pdb"])
def test_other_formats_are_read(tmp_path, name):
    ase.io.write(tmp_path / name, bare())
    (structure,) = read_ase(tmp_path / name)
    assert structure.atomic_numbers.tolist() == [11, 17]
    np.testing.assert_allclose(np.linalg.norm(structure.cell, axis=1), [2, 4, 8], atol=1e-3)
    assert structure.pbc == (True, True, True)
    assert structure.energy is None


def test_long_files_are_read_lazily(tmp_path):
    ase.io.write(tmp_path / "a.xyz", crystal(), format="extxyz")
    assert isinstance(read_ase(tmp_path / "a.xyz"), ExtxyzFrames)
    ase.io.write(tmp_path / "no name", crystal(), format="extxyz")
    assert isinstance(read_ase(tmp_path / "no name", format="extxyz"), ExtxyzFrames)
    ase.db.connect(tmp_path / "a.db").write(crystal())
    assert isinstance(read_ase(tmp_path / "a.db", index="0")._source, DatabaseRows)


def test_units_and_names_hold_for_all_formats(tmp_path):
    ase.io.write(tmp_path / "a.traj", crystal())
    (structure,) = read_ase(tmp_path / "a.traj", LabelKeys(energy_unit="meV", forces=None))
    assert structure.energy == -3e-3
    assert structure.forces is None


def test_a_name_with_an_at_sign_is_a_name(tmp_path):
    ase.io.write(tmp_path / "a.traj", crystal())
    (tmp_path / "a.traj").rename(tmp_path / "a@0.traj")
    assert len(read_ase(tmp_path / "a@0.traj")) == 1


def test_labels_in_some_frames_only_are_refused(tmp_path):
    path = tmp_path / "a.traj"
    ase.io.write(path, [crystal(), crystal(labels=False)])
    message = r"a\.traj: frame 1: 'energy': missing here, but frame 0 has it"
    with pytest.raises(DataError, match=message):
        read_ase(path)
    assert len(read_ase(path, LabelKeys(energy=None, forces=None, stress=None))) == 2
    assert len(read_ase(path, index="0")) == 1


@pytest.mark.parametrize("name", ["POSCAR", "OUTCAR", "a.traj", "a.cif", "a.unknown", "a.xyz.gz"])
@pytest.mark.parametrize("content", [b"", b"something else\n" * 3, b"\x80\x04\x95\x00"])
def test_other_contents_under_the_name_are_refused(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=f"{name}: (ASE|no structures)"):
        read_ase(tmp_path / name)


def test_missing_files_and_frames_are_told(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.traj: no such file"):
        read_ase(tmp_path / "none.traj")
    ase.io.write(tmp_path / "a.traj", crystal())
    with pytest.raises(ValueError, match="index: '5' selects none of 1 frames"):
        read_ase(tmp_path / "a.traj", index="5")


@needs_real_data
@pytest.mark.parametrize(
    ("name", "keys", "count"),
    [
        ("rmd17/rmd17_aspirin_test.xyz", {}, 1800),
        ("extxyz/mlip_small_aspirin_test.xyz", {}, 7),
        ("extxyz/mlip_small_materials_test.extxyz", {}, 8),
        ("extxyz/mlip_SPICE_small_with_charges.xyz", {"per_atom": ("mulliken_charges",)}, 5),
        (
            "extxyz/metatrain_carbon_reduced_100.xyz",
            {"forces": "force", "stress": "virial", "stress_kind": "virial"},
            100,
        ),
        ("md22/md22_Ac-Ala3-NHMe_5frames.xyz", {"energy": "Energy", "energy_unit": "kcal/mol"}, 5),
    ],
)
def test_public_samples_are_read(name, keys, count):
    structures = read_ase(REAL_DATA / name, LabelKeys(**keys))
    assert len(structures) == count
    for structure in structures[:: max(1, len(structures) // 20)]:
        assert structure.energy is not None
        assert structure.forces.shape == structure.positions.shape
        # Forces of whole systems add up to nothing.
        np.testing.assert_allclose(structure.forces.sum(axis=0), 0, atol=0.05)


@needs_real_data
def test_a_sample_with_magnetic_moments_in_some_frames_only_is_refused():
    path = REAL_DATA / "extxyz/mlip_small_materials_test.extxyz"
    with pytest.raises(DataError, match="frame 1: 'magmoms': missing here, but frame 0 has it"):
        read_ase(path, LabelKeys(per_atom=("magmoms",)))

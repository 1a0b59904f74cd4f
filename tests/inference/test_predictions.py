"""Predictions in files, read back."""

from __future__ import annotations

import dataclasses
import os

import ase.io
import numpy as np
import pytest

import equiformer_jax as eqf
from equiformer_jax.data.readers.ase_files import read_ase
from equiformer_jax.data.readers.label_keys import LabelKeys
from equiformer_jax.data.structures import StructureList
from equiformer_jax.inference.predictions import write_evaluation, write_predictions
from equiformer_jax.training.evaluation import Evaluation
from tests.inference.small_potentials import crystal, molecules, same_labels


def labeled(structure, seed, **more):
    generator = np.random.default_rng(seed)
    stress = generator.normal(size=(3, 3))
    return dataclasses.replace(
        structure,
        energy=-17000 + generator.normal(),
        forces=generator.normal(size=(structure.num_atoms, 3)),
        stress=(stress + stress.T) / 2 if structure.is_periodic else None,
        **more,
    )


@pytest.fixture
def pairs():
    """Structures with references, and predictions of them."""
    plain = [*molecules(3), crystal(properties={"name": "a slab", "sid": 7})]
    given = [labeled(structure, seed) for seed, structure in enumerate(plain)]
    return given, [labeled(structure, 10 + seed) for seed, structure in enumerate(given)]


def read_back(path, prefix=""):
    """All labels under their names with a prefix; frame by frame, for they need not be alike."""
    found = []
    for index, atoms in enumerate(ase.io.read(path, ":")):
        names = {*atoms.info, *atoms.arrays, *(atoms.calc.results if atoms.calc else ())}
        keys = {
            field: prefix + field if prefix + field in names else None
            for field in ("energy", "forces", "stress", "relaxed_positions", "relaxed_energy")
        }
        (structure,) = read_ase(path, LabelKeys(**keys), index=index)[:1]
        found.append(structure)
    return found


@pytest.mark.parametrize("suffix", [".extxyz", ".xyz"])
def test_extxyz_holds_predictions_under_the_standard_names(tmp_path, pairs, suffix):
    given, predicted = pairs
    path = write_predictions(tmp_path / f"out{suffix}", given, predicted)
    for expected, structure in zip(predicted, read_back(path), strict=True):
        assert same_labels(expected, structure, tolerance=1e-7)
        assert np.abs(structure.positions - expected.positions).max() < 1e-7
        assert np.array_equal(structure.atomic_numbers, expected.atomic_numbers)
        assert structure.pbc == expected.pbc
    for expected, structure in zip(given, read_back(path, "reference_"), strict=True):
        assert same_labels(expected, structure, tolerance=1e-7)
    last = ase.io.read(path, -1)
    assert last.info["name"] == "a slab" and last.info["sid"] == 7
    assert np.array_equal(last.get_tags(), [0, 1, 2])


def test_npz_holds_flat_arrays(tmp_path, pairs):
    given, predicted = pairs
    path = write_predictions(tmp_path / "out.npz", given, iter(predicted))
    with np.load(path) as file:
        arrays = dict(file)
    for prefix, structures in (("", predicted), ("reference_", given)):
        for index, structure in enumerate(structures):
            atoms = slice(arrays["offsets"][index], arrays["offsets"][index + 1])
            assert arrays[f"{prefix}energy"][index] == structure.energy
            assert np.array_equal(arrays[f"{prefix}forces"][atoms], structure.forces)
            assert np.array_equal(arrays["positions"][atoms], structure.positions)
            assert np.array_equal(arrays["atomic_numbers"][atoms], structure.atomic_numbers)
            assert arrays["pbc"][index].tolist() == list(structure.pbc)
    # Only the last one is periodic.
    assert np.array_equal(arrays["cell"][-1], predicted[-1].cell)
    assert np.array_equal(arrays["stress"][-1], predicted[-1].stress)
    assert not arrays["cell"][:-1].any() and np.isnan(arrays["stress"][:-1]).all()
    assert "relaxed_positions" not in arrays and "reference_relaxed_energy" not in arrays


def test_structures_need_no_references(tmp_path, pairs):
    _, predicted = pairs
    plain = [dataclasses.replace(s, energy=None, forces=None, stress=None) for s in predicted]
    write_predictions(tmp_path / "out.npz", plain, predicted)
    with np.load(tmp_path / "out.npz") as file:
        assert not [name for name in file.files if name.startswith("reference")]
    path = write_predictions(tmp_path / "out.xyz", plain, predicted)
    assert not [name for name in ase.io.read(path, 0).info if name.startswith("reference")]


@pytest.mark.parametrize("suffix", [".xyz", ".npz"])
def test_relaxed_structures(tmp_path, suffix):
    structure = crystal(relaxed_energy=-3.0, relaxed_positions=np.zeros((3, 3)))
    predicted = dataclasses.replace(
        structure, energy=-2.0, relaxed_energy=-2.0, relaxed_positions=np.ones((3, 3))
    )
    path = write_predictions(tmp_path / f"out{suffix}", [structure], [predicted])
    if suffix == ".npz":
        with np.load(path) as file:
            assert file["relaxed_energy"] == [-2.0] and file["reference_relaxed_energy"] == [-3.0]
            assert (file["relaxed_positions"] == 1).all()
            assert (file["reference_relaxed_positions"] == 0).all()
        return
    atoms = ase.io.read(path)
    assert atoms.info["relaxed_energy"] == -2.0 and atoms.info["reference_relaxed_energy"] == -3.0
    assert (atoms.arrays["relaxed_positions"] == 1).all()
    assert (atoms.arrays["reference_relaxed_positions"] == 0).all()


def test_what_is_written_can_be_predicted_and_written_again(tmp_path, pairs):
    given, predicted = pairs
    path = write_predictions(tmp_path / "out.xyz", given[:2], predicted[:2])
    again = read_ase(path)
    path = write_predictions(tmp_path / "again.xyz", again, given[:2])
    for one, other in zip(read_back(path, "reference_"), predicted, strict=False):
        assert same_labels(one, other, tolerance=1e-7)


@pytest.mark.parametrize("suffix", [".xyz", ".npz"])
def test_what_goes_wrong_leaves_the_old_file(tmp_path, pairs, suffix):
    given, predicted = pairs
    path = tmp_path / f"out{suffix}"
    path.write_text("what was there")

    def failing():
        yield predicted[0]
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        write_predictions(path, given, failing())
    for structures, predictions in ((given, predicted[:1]), ([], [])):
        with pytest.raises(ValueError, match="shorter|at least one"):
            write_predictions(path, structures, predictions)
    assert path.read_text() == "what was there"
    assert os.listdir(tmp_path) == [path.name]


def test_another_suffix_is_refused(tmp_path, pairs):
    with pytest.raises(ValueError, match=r"out\.cif: expected a name that ends in .*\.npz"):
        write_predictions(tmp_path / "out.cif", *pairs)


def test_an_evaluation_is_written_like_predictions(tmp_path, pairs):
    given, predicted = pairs
    evaluation = Evaluation(
        split="test",
        metrics={},
        structures=StructureList(given, "given"),
        predicted_energies=np.array([structure.energy for structure in predicted]),
        reference_energies=np.array([structure.energy for structure in given]),
        predicted_forces=np.concatenate([structure.forces for structure in predicted]),
        reference_forces=np.concatenate([structure.forces for structure in given]),
    )
    path = write_evaluation(tmp_path / "test.npz", evaluation, {"kind": "energy_forces"})
    expected = write_predictions(
        tmp_path / "same.npz",
        given,
        [dataclasses.replace(structure, stress=None) for structure in predicted],
    )
    with np.load(path) as one, np.load(expected) as other:
        assert one.files == other.files
        for name in one.files:
            np.testing.assert_array_equal(one[name], other[name])


def evaluation_of(structures, **predicted):
    energies = np.arange(1.0, 1.0 + len(structures))
    return Evaluation(
        split="test",
        metrics={},
        structures=StructureList(structures, "given"),
        predicted_energies=energies,
        reference_energies=np.zeros(len(structures)),
        **predicted,
    )


def test_an_evaluation_of_an_ensemble_that_learns_stress_is_written_whole(tmp_path):
    given = [crystal(seed, atoms) for seed, atoms in enumerate((3, 1, 2))]
    generator = np.random.default_rng(0)
    stress = generator.normal(size=(3, 3, 3))
    stress += stress.swapaxes(1, 2)
    spread_energies, spread_forces = generator.random(3), generator.random((6, 3))
    evaluation = evaluation_of(
        given,
        predicted_stress=stress,
        spread_energies=spread_energies,
        spread_forces=spread_forces,
    )
    objective = {"kind": "energy_forces"}
    with np.load(write_evaluation(tmp_path / "out.npz", evaluation, objective)) as file:
        np.testing.assert_array_equal(file["stress"], stress)
        np.testing.assert_array_equal(file["spread_energy"], spread_energies)
        np.testing.assert_array_equal(file["spread_forces"], spread_forces)
        assert "relaxed_energy" not in file
    path = write_evaluation(tmp_path / "out.xyz", evaluation, objective)
    frames = ase.io.read(path, ":")
    written = [frame.get_stress(voigt=False) for frame in frames]
    np.testing.assert_allclose(written, stress, atol=1e-7)
    written = [frame.info["spread_energy"] for frame in frames]
    np.testing.assert_allclose(written, spread_energies)
    written = np.concatenate([frame.arrays["spread_forces"] for frame in frames])
    np.testing.assert_allclose(written, spread_forces, atol=1e-7)


def test_a_system_without_volume_has_no_stress(tmp_path):
    flat = crystal(pbc=(True, True, False))
    flat = dataclasses.replace(flat, cell=flat.cell * [[1], [1], [0]])
    evaluation = evaluation_of([flat], predicted_stress=np.zeros((1, 3, 3)))
    path = write_evaluation(tmp_path / "out.npz", evaluation, {"kind": "energy_forces"})
    with np.load(path) as file:
        assert "stress" not in file


@pytest.mark.parametrize("suffix", [".xyz", ".npz"])
def test_an_evaluation_of_a_relaxation_has_relaxed_positions(tmp_path, suffix):
    relaxed = [np.full((3, 3), 0.5), np.full((2, 3), 0.25)]
    given = [
        crystal(seed, len(positions), relaxed_energy=-3.0, relaxed_positions=positions)
        for seed, positions in enumerate(relaxed)
    ]
    displacements = np.random.default_rng(0).normal(size=(5, 3))
    evaluation = evaluation_of(given, predicted_displacements=displacements)
    objective = {"kind": "relaxation", "displacement_std": 0.5}
    path = write_evaluation(tmp_path / f"out{suffix}", evaluation, objective)
    # The first atom of each lies below the surface, which stays.
    moved = np.concatenate([each.positions for each in given]) + 0.5 * displacements
    moved[0], moved[3] = given[0].positions[0], given[1].positions[0]
    if suffix == ".npz":
        with np.load(path) as file:
            np.testing.assert_array_equal(file["relaxed_positions"], moved)
            np.testing.assert_array_equal(
                file["reference_relaxed_positions"], np.concatenate(relaxed)
            )
            assert file["relaxed_energy"].tolist() == file["energy"].tolist() == [1.0, 2.0]
        return
    frames = ase.io.read(path, ":")
    written = np.concatenate([frame.arrays["relaxed_positions"] for frame in frames])
    np.testing.assert_allclose(written, moved, atol=1e-7)
    assert [frame.info["relaxed_energy"] for frame in frames] == [1.0, 2.0]


def test_a_head_that_was_not_trained_is_not_written(tmp_path):
    evaluation = evaluation_of([crystal()], predicted_displacements=np.ones((3, 3)))
    path = write_evaluation(tmp_path / "out.npz", evaluation, {"kind": "relaxation"})
    with np.load(path) as file:
        assert "relaxed_positions" not in file


def test_properties_of_any_kind_survive(tmp_path):
    structure = eqf.Structure(
        [[0.0, 0, 0]],
        [6],
        energy=1.0,
        properties={"flag": True, "none": None, "list": [1, 2], "nested": {"a": [1]}},
    )
    path = write_predictions(tmp_path / "out.xyz", [structure], [structure])
    found = read_ase(path)[0].properties
    assert found["flag"] and found["nested"] == {"a": [1]}
    assert np.array_equal(found["list"], [1, 2])

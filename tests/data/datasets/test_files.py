from __future__ import annotations

import ase.db
import ase.io
import numpy as np
import pytest

from equiformer_jax.data.datasets.files import load_files


@pytest.fixture
def trajectory(tmp_path):
    """100 frames of two atoms; the energy, in hartree, is the number of the frame."""
    path = tmp_path / "trajectory.xyz"
    images = []
    for number in range(100):
        atoms = ase.Atoms("HO", positions=[[0, 0, 0], [0, 0, 1 + number / 1000]])
        atoms.info["REF_energy"] = float(number)
        images.append(atoms)
    ase.io.write(path, images, format="extxyz")
    return str(path)


KEYS = {"energy": "REF_energy", "energy_unit": "hartree"}


def numbers(structures):
    return [round(structure.energy / 27.211386) for structure in structures]


def test_one_file_is_divided_at_random(trajectory):
    splits = {name: numbers(part) for name, part in load_files(trajectory, **KEYS).items()}
    assert {name: len(part) for name, part in splits.items()} == {
        "train": 80,
        "validation": 10,
        "test": 10,
    }
    assert sorted(sum(splits.values(), [])) == list(range(100))
    again = load_files(trajectory, **KEYS)
    assert numbers(again["test"]) == splits["test"]
    assert numbers(load_files(trajectory, split_seed=2, **KEYS)["test"]) != splits["test"]


def test_one_trajectory_is_divided_in_blocks_with_gaps(trajectory):
    splits = load_files(trajectory, order="blocks", **KEYS)
    train, validation, test = (numbers(splits[name]) for name in splits)
    assert train == list(range(78))
    assert validation == list(range(79, 89))
    assert test == list(range(90, 100))


@pytest.mark.parametrize("order", ["random", "blocks"])
def test_only_what_has_no_file_is_taken_from_the_training_file(trajectory, order):
    splits = load_files(trajectory, test=trajectory, order=order, **KEYS)
    assert numbers(splits["test"]) == list(range(100))
    assert not set(numbers(splits["train"])) & set(numbers(splits["validation"]))
    assert len(splits["validation"]) == 10


def test_names_and_units_of_labels_are_options(trajectory):
    first = load_files(trajectory, order="blocks", **KEYS)["train"][1]
    np.testing.assert_allclose(first.energy, 27.211386, rtol=1e-6)
    assert load_files(trajectory, energy="none")["train"][0].energy is None


def test_a_database_is_read_like_any_other_file(tmp_path):
    with ase.db.connect(tmp_path / "water.db") as database:
        for number in range(20):
            atoms = ase.Atoms("HO", positions=[[0, 0, 0], [0, 0, 1]])
            database.write(atoms, REF_energy=float(number))
    splits = load_files(str(tmp_path / "water.db"), order="blocks", **KEYS)
    assert numbers(splits["test"]) == [18, 19]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"train": ""}, r"data\.options\.train: expected a file"),
        ({"order": "sorted"}, r"data\.options\.order='sorted'; known are"),
        ({"energy_unit": "barrel"}, "energy_unit"),
    ],
)
def test_bad_options_are_named(trajectory, options, message):
    with pytest.raises(ValueError, match=message):
        load_files(**{"train": trajectory, **options})


def test_a_missing_file_is_named(tmp_path, trajectory):
    with pytest.raises(FileNotFoundError, match=r"data\.options\.test: .*gone\.xyz"):
        load_files(trajectory, test=str(tmp_path / "gone.xyz"), **KEYS)


def test_too_few_frames_to_divide_are_refused(tmp_path):
    path = tmp_path / "two.xyz"
    ase.io.write(path, [ase.Atoms("H")] * 2, format="extxyz")
    with pytest.raises(ValueError, match=r"2 structures, too few to take some for \['validation'"):
        load_files(str(path))

from __future__ import annotations

import io
import tarfile

import ase.io
import numpy as np
import pytest

from equiformer_jax.data.errors import DataError
from equiformer_jax.data.readers.rmd17 import RMD17_MOLECULES, read_rmd17, read_rmd17_split
from equiformer_jax.data.splits import csv_split
from tests.paths import REAL_DATA, needs_real_data

EV = 0.04336410390059322
FRAMES = 5


def save(path, **changes):
    """A file in the public layout, with the old labels."""
    rng = np.random.default_rng(0)
    arrays = {
        "nuclear_charges": np.array([8, 1, 1], np.uint8),
        "coords": rng.normal(size=(FRAMES, 3, 3)),
        "energies": rng.normal(-400000, 5, FRAMES),
        "forces": rng.normal(size=(FRAMES, 3, 3)),
        "old_indices": np.arange(FRAMES),
        "old_energies": np.full(FRAMES, np.nan),
        "old_forces": np.full((FRAMES, 3, 3), np.nan),
    } | changes
    np.savez_compressed(path, **arrays)
    return arrays


def write_lines(path, values):
    path.write_text("".join(f"{value}\n" for value in values))


@pytest.fixture
def unpacked(tmp_path):
    """The folder `rmd17` as the public archive has it."""
    folder = tmp_path / "rmd17"
    (folder / "npz_data").mkdir(parents=True)
    (folder / "splits").mkdir()
    save(folder / "npz_data" / "rmd17_salicylic.npz")
    write_lines(folder / "splits" / "index_train_02.csv", [4, 0, 2])
    write_lines(folder / "splits" / "index_test_02.csv", [1, 3])
    return folder


def pack(unpacked, prefix=""):
    path = unpacked.parent / "rmd17.tar.bz2"
    with tarfile.open(path, "w:bz2") as archive:
        archive.add(unpacked, f"{prefix}rmd17")
    return path


def test_kilocalories_become_electronvolts_and_old_labels_are_ignored(tmp_path):
    arrays = save(tmp_path / "rmd17_water.npz")
    frames = read_rmd17(tmp_path / "rmd17_water.npz")
    assert len(frames) == FRAMES
    assert frames[4].energy == arrays["energies"][4] * EV
    np.testing.assert_array_equal(frames[4].forces, arrays["forces"][4] * EV)
    np.testing.assert_array_equal(frames[4].positions, arrays["coords"][4])


@pytest.mark.parametrize("prefix", ["", "./"])
def test_archive_folder_and_file_give_the_same(unpacked, prefix):
    expected = read_rmd17(unpacked / "npz_data" / "rmd17_salicylic.npz")
    archive = pack(unpacked, prefix)
    for path in (archive, unpacked, unpacked.parent, unpacked / "npz_data"):
        frames = read_rmd17(path, "salicylic_acid")
        np.testing.assert_array_equal(frames.energies, expected.energies)
        np.testing.assert_array_equal(frames[2].forces, expected[2].forces)
        split = read_rmd17_split(path if path.suffix else unpacked, 2, FRAMES)
        assert {name: indices.tolist() for name, indices in split.items()} == {
            "train": [4, 0, 2],
            "test": [1, 3],
        }
    assert read_rmd17(archive, "salicylic_acid").name_of(1) == (
        f"{archive}/rmd17/npz_data/rmd17_salicylic.npz: frame 1"
    )


def test_splits_are_found_in_their_own_folder_and_become_three(unpacked):
    split = read_rmd17_split(unpacked / "splits", 2, FRAMES)
    assert split["train"].dtype == np.int64
    three = csv_split(split["train"], split["test"], num_validation=1)
    assert [len(three[name]) for name in ("train", "validation", "test")] == [2, 1, 2]


def test_what_an_archive_or_folder_lacks_is_named(unpacked):
    with pytest.raises(DataError, match=r"rmd17\.tar\.bz2: lacks \['rmd17/npz_data/rmd17_urac"):
        read_rmd17(pack(unpacked), "uracil")
    with pytest.raises(FileNotFoundError, match=r"none of these is there: .*rmd17_uracil\.npz"):
        read_rmd17(unpacked, "uracil")
    with pytest.raises(FileNotFoundError, match=r"index_train_03\.csv"):
        read_rmd17_split(unpacked, 3)
    with pytest.raises(FileNotFoundError, match=r"absent"):
        read_rmd17(unpacked / "absent.tar.bz2", "uracil")


@pytest.mark.parametrize("molecule", [None, "salicylic", "water"])
def test_an_unknown_molecule_is_refused(unpacked, molecule):
    with pytest.raises(ValueError, match=r"molecule: expected one of .*'salicylic_acid'"):
        read_rmd17(unpacked, molecule)


def test_a_damaged_archive_is_named(unpacked):
    path = pack(unpacked)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(DataError, match="expected a whole tar archive; this is a bzip2 archive"):
        read_rmd17(path, "salicylic_acid")
    path.write_text("<html>")
    with pytest.raises(DataError, match="expected a whole tar archive; this is a web page"):
        read_rmd17_split(path, 1)


def test_a_damaged_member_is_named(unpacked):
    (unpacked / "npz_data" / "rmd17_salicylic.npz").write_bytes(b"")
    with pytest.raises(DataError, match=r"rmd17_salicylic\.npz: .* this is an empty file"):
        read_rmd17(pack(unpacked), "salicylic_acid")


@pytest.mark.parametrize(
    ("train", "test", "message"),
    [
        ([4, 0, "x"], [1], r"index_train_02\.csv: line 3: expected an index from 0 to 4, got 'x'"),
        ([4, 0.5], [1], "line 2: .* got '0.5'"),
        ([4, -1], [1], "line 2: .* got '-1'"),
        ([4, 0], [1, 5], r"index_test_02\.csv: line 2: .* 0 to 4, got '5'"),
        ([4, 0, 4], [1], r"index_train_02\.csv: frame 4 is named more than once"),
        ([4, 0], [1, 0], r"index_test_02\.csv: frame 0 is also in .*index_train_02\.csv"),
        ([], [1], r"index_train_02\.csv: no indices"),
    ],
)
def test_wrong_indices_are_named(unpacked, train, test, message):
    write_lines(unpacked / "splits" / "index_train_02.csv", train)
    write_lines(unpacked / "splits" / "index_test_02.csv", test)
    with pytest.raises(DataError, match=message):
        read_rmd17_split(unpacked, 2, FRAMES)


@pytest.mark.parametrize("number", [0, 6, "1"])
def test_an_unknown_split_is_refused(unpacked, number):
    with pytest.raises(ValueError, match="number: expected a split from 1 to 5"):
        read_rmd17_split(unpacked, number)


def test_the_table_has_ten_molecules():
    assert len(set(RMD17_MOLECULES.values())) == 10
    assert RMD17_MOLECULES["salicylic_acid"] == "rmd17_salicylic.npz"


@needs_real_data
def test_aspirin_agrees_with_files_in_electronvolts():
    frames = read_rmd17(REAL_DATA / "rmd17" / "rmd17_aspirin_subset.npz")
    assert len(frames) == 3000
    for name, rows in {"train": [0, 1, 1199], "test": [1200, 1201, 2999]}.items():
        text = (REAL_DATA / "rmd17" / f"rmd17_aspirin_{name}.xyz").read_text()
        lines, first = text.splitlines(keepends=True), 0 if name == "train" else 1200
        for row in rows:
            start = 23 * (row - first)
            atoms = ase.io.read(io.StringIO("".join(lines[start : start + 23])), format="extxyz")
            structure = frames[row]
            assert structure.energy == pytest.approx(atoms.get_potential_energy(), abs=1e-9)
            np.testing.assert_allclose(structure.forces, atoms.get_forces(), atol=1e-8)
            np.testing.assert_array_equal(structure.positions, atoms.positions)
            np.testing.assert_array_equal(structure.atomic_numbers, atoms.numbers)


@needs_real_data
def test_a_file_whose_elements_do_not_fit_its_atoms_is_refused(tmp_path):
    # Whoever cut this sample to ten frames also cut its twelve atomic numbers to ten.
    path = REAL_DATA / "rmd17" / "rmd17_benzene_10frames.npz"
    with pytest.raises(DataError, match=r"'nuclear_charges': expected shape \[12\], got \[10\]"):
        read_rmd17(path)
    with np.load(path) as file:
        arrays = dict(file)
    whole = arrays | {"nuclear_charges": np.array([6] * 6 + [1] * 6, np.uint8)}
    np.savez(tmp_path / "whole.npz", **whole)
    frames = read_rmd17(tmp_path / "whole.npz")
    assert len(frames) == 10
    lengths = np.linalg.norm(frames[0].positions[0] - frames[0].positions[1:], axis=1)
    assert sorted(lengths)[0] == pytest.approx(1.09, abs=0.1)  # carbon to hydrogen, Å
    assert sorted(lengths)[1] == pytest.approx(1.39, abs=0.1)  # carbon to carbon

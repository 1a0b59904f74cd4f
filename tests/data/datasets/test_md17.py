from __future__ import annotations

import tarfile

import numpy as np
import pytest

from equiformer_jax.data.datasets.md17 import load_md17, load_md22, load_rmd17
from equiformer_jax.data.download.fetch import DownloadError
from equiformer_jax.data.errors import DataError
from equiformer_jax.data.splits import md17_split
from equiformer_jax.data.units import EV_PER_KCAL_MOL

NUM_FRAMES = 1200


def frames(count=NUM_FRAMES, names=("E", "F", "R", "z"), num_atoms=2, first=0):
    """Some atoms whose energy, in kcal/mol, is `first` plus the number of the frame."""
    energy, forces, positions, numbers = names
    return {
        energy: first + np.arange(count, dtype=float),
        forces: np.zeros((count, num_atoms, 3)),
        positions: np.random.default_rng(0).normal(size=(count, num_atoms, 3)),
        numbers: np.full(num_atoms, 8, np.uint8),
    }


def frame_numbers(splits):
    return {
        name: [structure.properties["frame"] for structure in part] for name, part in splits.items()
    }


def test_md17_is_found_in_the_folder_of_data_sets_and_split_as_published(tmp_path):
    (tmp_path / "md17").mkdir()
    np.savez(tmp_path / "md17" / "md17_ethanol.npz", **frames())
    splits = load_md17("ethanol", directory=str(tmp_path), download=False)
    expected = md17_split(NUM_FRAMES)
    assert frame_numbers(splits) == {name: part.tolist() for name, part in expected.items()}
    assert [len(part) for part in splits.values()] == [950, 50, 200]


def test_a_file_that_the_user_names_is_taken(tmp_path):
    np.savez(tmp_path / "mine.npz", **frames())
    assert len(load_md17("aspirin", file=str(tmp_path / "mine.npz"))["train"]) == 950


def test_a_missing_file_says_where_it_was_looked_for(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"md17/md17_ethanol\.npz is not there; download"):
        load_md17("ethanol", directory=str(tmp_path), download=False)
    with pytest.raises(FileNotFoundError, match=r"data\.options\.file: .*nothing\.npz"):
        load_md17("ethanol", file=str(tmp_path / "nothing.npz"))


def test_a_damaged_file_in_the_folder_is_not_taken(tmp_path):
    (tmp_path / "md17").mkdir()
    (tmp_path / "md17" / "md17_ethanol.npz").write_bytes(b"<html>not found</html>")
    with pytest.raises(DownloadError, match=r"md17_ethanol\.npz: not a whole \.npz file"):
        load_md17("ethanol", directory=str(tmp_path))


def test_a_trajectory_can_be_split_in_blocks_of_time(tmp_path):
    np.savez(tmp_path / "mine.npz", **frames(100))
    numbers = frame_numbers(load_md17("aspirin", order="blocks", file=str(tmp_path / "mine.npz")))
    assert numbers["train"] == list(range(78))
    assert numbers["validation"][0] == 79
    assert numbers["test"][0] == numbers["validation"][-1] + 2
    with pytest.raises(ValueError, match=r"data\.options\.order='time'; known are"):
        load_md17("aspirin", order="time", file=str(tmp_path / "mine.npz"))


@pytest.mark.parametrize(
    "load",
    [
        lambda: load_md17("water"),
        lambda: load_rmd17("water"),
        lambda: load_md22("water", num_train=1, num_validation=1),
    ],
)
def test_an_unknown_molecule_is_refused(load):
    with pytest.raises(ValueError, match=r"data\.options\.\w+='water'; known are \["):
        load()


def write_rmd17(folder, official, first=0):
    """A folder like the unpacked archive: uracil and its second split, 70 and 20 frames."""
    (folder / "npz_data").mkdir(parents=True)
    (folder / "splits").mkdir()
    names = ("energies", "forces", "coords", "nuclear_charges")
    np.savez(folder / "npz_data" / "rmd17_uracil.npz", **frames(100, names, first=first))
    np.savetxt(folder / "splits" / "index_train_02.csv", official[:70], fmt="%d")
    np.savetxt(folder / "splits" / "index_test_02.csv", official[70:90], fmt="%d")
    return folder


def test_rmd17_takes_its_test_frames_from_the_official_split(tmp_path):
    official = np.random.default_rng(1).permutation(100)
    folder = write_rmd17(tmp_path / "rmd17", official)
    numbers = frame_numbers(load_rmd17("uracil", split=2, file=str(folder)))
    assert numbers["test"] == official[70:90].tolist()
    assert len(numbers["train"]) == 20
    assert sorted(numbers["train"] + numbers["validation"]) == sorted(official[:70].tolist())


def test_archives_of_rmd17_in_one_folder_are_not_mixed_up(tmp_path):
    energies = []
    for first in (0, 1000):
        folder = write_rmd17(tmp_path / str(first) / "rmd17", np.arange(100), first)
        archive = tmp_path / f"from_{first}.tar.bz2"
        with tarfile.open(archive, "w:bz2") as tar:
            tar.add(folder, "rmd17")
        test = load_rmd17("uracil", split=2, file=str(archive))["test"]
        energies.append(test[0].energy / EV_PER_KCAL_MOL)
    assert energies == pytest.approx([70, 1070])


def test_a_single_file_of_rmd17_is_refused_and_nothing_is_unpacked(tmp_path):
    np.savez(tmp_path / "rmd17_uracil.npz", **frames(100))
    with pytest.raises(ValueError, match=r"data\.options\.file: .*uracil\.npz has no official spl"):
        load_rmd17("uracil", file=str(tmp_path / "rmd17_uracil.npz"))
    assert [path.name for path in tmp_path.iterdir()] == ["rmd17_uracil.npz"]


def test_md22_is_split_at_random(tmp_path):
    np.savez(tmp_path / "md22.npz", **frames(60, num_atoms=60))
    splits = load_md22("AT-AT", num_train=30, num_validation=10, file=str(tmp_path / "md22.npz"))
    numbers = frame_numbers(splits)
    assert [len(part) for part in numbers.values()] == [30, 10, 20]
    assert sorted(sum(numbers.values(), [])) == list(range(60))
    assert numbers["train"] != sorted(numbers["train"])


def test_the_file_of_another_md22_system_is_refused(tmp_path):
    np.savez(tmp_path / "md22.npz", **frames(60, num_atoms=42))
    with pytest.raises(DataError, match=r"md22\.npz: frames of 42 atoms; expected the 60 of AT-AT"):
        load_md22("AT-AT", num_train=30, num_validation=10, file=str(tmp_path / "md22.npz"))

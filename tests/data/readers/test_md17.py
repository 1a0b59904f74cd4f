from __future__ import annotations

import zipfile

import numpy as np
import pytest

from equiformer_jax.data.errors import DataError
from equiformer_jax.data.readers.md17 import (
    MD17_COUPLED_CLUSTER_FILES,
    MD17_FILES,
    read_md17,
    read_md17_coupled_cluster,
)
from tests.paths import REAL_DATA, needs_real_data

EV = 0.04336410390059322


def save(path, num_frames=3, energy_shape=(-1, 1), **changes):
    """A file in the public layout, with the texts that the public files also hold."""
    rng = np.random.default_rng(num_frames)
    arrays = {
        "E": rng.normal(-97208, 1, num_frames).reshape(energy_shape),
        "F": rng.normal(size=(num_frames, 3, 3)),
        "R": rng.normal(size=(num_frames, 3, 3)),
        "z": np.array([8, 1, 1], np.uint8),
        "name": "water",
        "theory": "pbe",
    } | changes
    np.savez(path, **arrays)
    return arrays


@pytest.mark.parametrize("energy_shape", [(-1, 1), (-1,)])
def test_kilocalories_become_electronvolts(tmp_path, energy_shape):
    arrays = save(tmp_path / "md17_water.npz", energy_shape=energy_shape)
    frames = read_md17(tmp_path / "md17_water.npz")
    assert len(frames) == 3
    structure = frames[1]
    assert structure.energy == arrays["E"].reshape(-1)[1] * EV
    np.testing.assert_array_equal(structure.forces, arrays["F"][1] * EV)
    np.testing.assert_array_equal(structure.positions, arrays["R"][1])
    assert structure.atomic_numbers.tolist() == [8, 1, 1]


def test_errors_name_file_frame_and_key(tmp_path):
    path = tmp_path / "md17_water.npz"
    save(path, F=np.full((3, 3, 3), np.nan))
    with pytest.raises(DataError, match=r"md17_water\.npz: frame 0: 'F': not finite"):
        read_md17(path)
    np.savez(path, coords=np.zeros((3, 3, 3)))
    with pytest.raises(DataError, match=r"lacks the arrays \['z', 'R', 'E', 'F'\]; .*coords"):
        read_md17(path)


def test_another_file_has_another_fingerprint(tmp_path):
    save(tmp_path / "a.npz")
    save(tmp_path / "b.npz", 4)
    first = read_md17(tmp_path / "a.npz").fingerprint
    assert first == read_md17(tmp_path / "a.npz").fingerprint
    assert first != read_md17(tmp_path / "b.npz").fingerprint


@pytest.fixture
def coupled_cluster(tmp_path):
    """An unpacked set; the archive lies beside its folder."""
    folder = tmp_path / "aspirin_ccsd"
    folder.mkdir()
    save(folder / "aspirin_ccsd-train.npz", 4)
    save(folder / "aspirin_ccsd-test.npz", 2)
    with zipfile.ZipFile(tmp_path / "aspirin_ccsd.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.iterdir()):
            archive.write(file, file.name)
            archive.writestr(f"__MACOSX/._{file.name}", b"\x00\x05\x16\x07")
    return folder


def test_coupled_cluster_sets_are_read_from_archive_and_folder(coupled_cluster):
    unpacked = read_md17_coupled_cluster(coupled_cluster)
    packed = read_md17_coupled_cluster(coupled_cluster.with_suffix(".zip"))
    for splits in (unpacked, packed):
        assert {name: len(frames) for name, frames in splits.items()} == {"train": 4, "test": 2}
    for split in ("train", "test"):
        for ours, theirs in zip(unpacked[split], packed[split], strict=True):
            assert ours.energy == theirs.energy
            np.testing.assert_array_equal(ours.forces, theirs.forces)
    assert packed["train"].fingerprint != packed["test"].fingerprint
    assert packed["test"].name_of(0).endswith("aspirin_ccsd.zip/aspirin_ccsd-test.npz: frame 0")


def test_a_missing_or_second_member_is_named(coupled_cluster):
    (coupled_cluster / "aspirin_ccsd-test.npz").rename(coupled_cluster / "b-train.npz")
    expected = r"aspirin_ccsd: expected one file <name>-train\.npz, found .*'b-train\.npz'"
    with pytest.raises(DataError, match=expected):
        read_md17_coupled_cluster(coupled_cluster)
    (coupled_cluster / "b-train.npz").unlink()
    with pytest.raises(DataError, match=r"expected one file <name>-test\.npz, found \['aspirin"):
        read_md17_coupled_cluster(coupled_cluster)


def test_a_damaged_archive_is_named(coupled_cluster):
    path = coupled_cluster.with_suffix(".zip")
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(DataError, match=r"aspirin_ccsd\.zip: expected a whole zip archive"):
        read_md17_coupled_cluster(path)
    with pytest.raises(FileNotFoundError, match="absent"):
        read_md17_coupled_cluster(path.with_name("absent.zip"))


def test_the_table_has_every_public_file_once():
    assert len(set(MD17_FILES.values())) == len(MD17_FILES) == 16
    assert MD17_COUPLED_CLUSTER_FILES.items() <= MD17_FILES.items()
    assert MD17_FILES["salicylic_acid"] == "md17_salicylic.npz"
    assert MD17_FILES["benzene"] == "md17_benzene2017.npz"


@needs_real_data
def test_the_public_ethanol_trajectory():
    path = REAL_DATA / "md17" / "md17_ethanol_2000_consecutive.npz"
    frames = read_md17(path)
    assert len(frames) == 2000
    numbers, counts = np.unique(frames.atomic_numbers, return_counts=True)
    assert dict(zip(numbers.tolist(), counts.tolist(), strict=True)) == {1: 6, 6: 2, 8: 1}
    # All electrons of ethanol, some 155 hartree below none.
    assert frames.energies.mean() == pytest.approx(-154.9 * 27.2114, abs=3)
    assert frames[0].energy == pytest.approx(-97208.40600498 * EV, abs=1e-6)
    assert frames[0].forces[0, 0] == pytest.approx(1.45172974 * EV, abs=1e-8)
    # Energies and forces belong together: along the trajectory dE = -F dR, to second order.
    pairs = [(frames[index], frames[index + 1]) for index in range(200)]
    found = [b.energy - a.energy for a, b in pairs]
    work = [-np.sum((a.forces + b.forces) / 2 * (b.positions - a.positions)) for a, b in pairs]
    np.testing.assert_allclose(found, work, atol=0.1 * np.std(found))

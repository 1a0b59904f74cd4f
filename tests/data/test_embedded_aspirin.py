from __future__ import annotations

import importlib.util

import numpy as np
import pytest

from equiformer_jax.data.embedded import load_embedded_aspirin
from equiformer_jax.data.embedded.aspirin import ARRAYS, ASPIRIN_FILE, SPLITS
from experiments.aspirin import molecule

NUM_ATOMS = 21
LARGEST_FILE = 1_500_000  # bytes

needs_tblite = pytest.mark.skipif(
    importlib.util.find_spec("tblite") is None,
    reason="labels are computed again only where tblite is installed",
)


@pytest.fixture(scope="module")
def arrays():
    with np.load(ASPIRIN_FILE, allow_pickle=False) as file:
        return dict(file)


@pytest.fixture(scope="module")
def splits():
    return load_embedded_aspirin()


def save(path, arrays):
    np.savez(path, **arrays)
    return path


def few(arrays):
    """The first two frames."""
    return {
        name: values if name == "atomic_numbers" else values[:2] for name, values in arrays.items()
    }


def test_file_is_small():
    assert ASPIRIN_FILE.stat().st_size < LARGEST_FILE


def test_arrays_are_those_that_are_promised(arrays):
    assert set(arrays) == set(ARRAYS)
    num_frames = len(arrays["split"])
    assert num_frames >= 1000
    assert arrays["positions"].shape == arrays["forces"].shape == (num_frames, NUM_ATOMS, 3)
    assert arrays["positions"].dtype == arrays["forces"].dtype == np.float32
    assert arrays["energies"].dtype == arrays["times_fs"].dtype == np.float64
    assert all(np.isfinite(values).all() for values in arrays.values())


def test_it_is_aspirin(arrays):
    numbers, counts = np.unique(arrays["atomic_numbers"], return_counts=True)
    assert dict(zip(numbers, counts, strict=True)) == {1: 8, 6: 9, 8: 4}


def test_no_frame_has_another_bond_than_aspirin(arrays):
    for index, positions in enumerate(arrays["positions"]):
        assert molecule.bonded_pairs(arrays["atomic_numbers"], positions) == molecule.BONDS, index


def test_splits_are_whole_and_disjoint(arrays, splits):
    assert tuple(splits) == SPLITS
    sizes = [len(splits[name]) for name in SPLITS]
    assert sizes == np.bincount(arrays["split"]).tolist() == [875, 125, 250]
    times = [s.properties["time_fs"] for name in SPLITS for s in splits[name]]
    assert len(set(times)) == len(times)


def test_reader_gives_the_stored_numbers(arrays, splits):
    for number, name in enumerate(SPLITS):
        rows = np.flatnonzero(arrays["split"] == number)
        for row, structure in zip(rows, splits[name], strict=True):
            np.testing.assert_array_equal(structure.positions, arrays["positions"][row])
            np.testing.assert_array_equal(structure.forces, arrays["forces"][row])
            np.testing.assert_array_equal(structure.atomic_numbers, arrays["atomic_numbers"])
            assert structure.energy == arrays["energies"][row]
            assert structure.cell is None and not structure.is_periodic


def test_frames_are_apart_and_splits_farther(arrays):
    times, split, trajectory = arrays["times_fs"], arrays["split"], arrays["trajectory"]
    steps = np.diff(times)
    assert np.all(steps >= 100.0)
    leaves_block = (np.diff(split) != 0) | (np.diff(trajectory) != 0)
    assert np.all(steps[leaves_block] >= 2000.0)
    # The nearest training frame of a frame to test on, over all trajectories.
    distance = np.abs(times[split == 2][:, None] - times[split == 0][None, :])
    assert distance.min() >= 2000.0


def test_every_split_draws_from_every_trajectory(arrays):
    everything = np.unique(arrays["trajectory"]).tolist()
    for number in range(len(SPLITS)):
        assert np.unique(arrays["trajectory"][arrays["split"] == number]).tolist() == everything


def test_no_two_frames_are_alike(arrays):
    frames = arrays["positions"].reshape(len(arrays["positions"]), -1)
    assert len(np.unique(frames, axis=0)) == len(frames)


def test_net_force_is_zero(arrays):
    net = arrays["forces"].astype(np.float64).sum(axis=1)
    # GFN2-xTB does not feel a translation; what remains is the rounding to float32.
    assert np.abs(net).max() < 1e-5


def test_net_torque_is_zero(arrays):
    positions, forces = arrays["positions"].astype(np.float64), arrays["forces"].astype(np.float64)
    assert np.abs(np.cross(positions, forces).sum(axis=1)).max() < 1e-3


def test_energies_are_those_of_a_molecule_at_500_kelvin(arrays):
    # 57 vibrations hold kT/2 of potential energy each, if harmonic: 1.23 eV above the minimum, and
    # spread by sqrt(57 / 2) kT = 0.23 eV.
    above_minimum = arrays["energies"] + 1078.4376
    assert above_minimum.mean() == pytest.approx(1.23, rel=0.1)
    assert above_minimum.std() == pytest.approx(0.23, rel=0.15)
    assert above_minimum.min() > 0


@needs_tblite
def test_labels_can_be_computed_again(arrays):
    for index in (0, len(arrays["energies"]) - 1):
        positions = arrays["positions"][index].astype(np.float64)
        energy, forces = molecule.label(arrays["atomic_numbers"], positions)
        assert energy == pytest.approx(arrays["energies"][index], abs=1e-6)
        np.testing.assert_allclose(forces, arrays["forces"][index], rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", sorted(ARRAYS))
def test_a_missing_array_is_named(arrays, tmp_path, name):
    broken = {key: values for key, values in few(arrays).items() if key != name}
    with pytest.raises(ValueError, match=rf"broken.npz: the arrays \['{name}'\] are missing"):
        load_embedded_aspirin(save(tmp_path / "broken.npz", broken))


def test_a_wrong_shape_is_named(arrays, tmp_path):
    broken = few(arrays) | {"forces": arrays["forces"][:2, :-1]}
    expected = r"broken.npz: 'forces': expected shape \(2, 21, 3\), got \(2, 20, 3\)"
    with pytest.raises(ValueError, match=expected):
        load_embedded_aspirin(save(tmp_path / "broken.npz", broken))


def test_an_unknown_split_is_named(arrays, tmp_path):
    broken = few(arrays) | {"split": np.array([0, 3], np.int8)}
    with pytest.raises(ValueError, match=r"broken.npz: 'split': expected 0, 1 or 2"):
        load_embedded_aspirin(save(tmp_path / "broken.npz", broken))


def test_a_label_that_is_not_finite_is_named(arrays, tmp_path):
    broken = few(arrays) | {"energies": np.array([-1077.0, np.nan])}
    with pytest.raises(ValueError, match=r"broken.npz: frame 1: energy: not finite"):
        load_embedded_aspirin(save(tmp_path / "broken.npz", broken))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"absent.npz"):
        load_embedded_aspirin(tmp_path / "absent.npz")

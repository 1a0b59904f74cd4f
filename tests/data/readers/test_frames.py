from __future__ import annotations

import pickle
import tracemalloc

import numpy as np
import pytest

from equiformer_jax.data.errors import DataError
from equiformer_jax.data.readers.frames import FrameKeys, FrameSequence

KEYS = FrameKeys(atomic_numbers="z", positions="R", energies="E", forces="F")


def arrays(num_frames=4, dtype=np.float64):
    rng = np.random.default_rng(0)
    return {
        "z": np.array([8, 1, 1], np.uint8),
        "R": rng.normal(size=(num_frames, 3, 3)).astype(dtype),
        "E": rng.normal(size=(num_frames, 1)),
        "F": rng.normal(size=(num_frames, 3, 3)).astype(dtype),
    }


def sequence(values, unit=0.5):
    return FrameSequence.from_arrays("w.npz", values, KEYS, energy_unit=unit, fingerprint="p")


def replaced(key, place, value):
    values = arrays()
    values[key] = values[key].astype(float)
    values[key][place] = value
    return values


def test_frames_are_converted():
    values = arrays()
    frames = sequence(values)
    assert len(frames) == 4 and frames.fingerprint == "p"
    for index, structure in enumerate(frames):
        np.testing.assert_array_equal(structure.positions, values["R"][index])
        np.testing.assert_array_equal(structure.forces, 0.5 * values["F"][index])
        assert structure.energy == 0.5 * values["E"][index, 0] == frames.energies[index]
        assert structure.atomic_numbers.tolist() == [8, 1, 1]
        assert structure.cell is None and not structure.is_periodic
        assert structure.properties == {"frame": index}


def test_float32_files_are_converted_in_float64():
    values = arrays(dtype=np.float32)
    forces = sequence(values, unit=0.1)[1].forces
    np.testing.assert_array_equal(forces, values["F"][1].astype(np.float64) * 0.1)


def test_energies_may_be_flat_and_forces_absent():
    values = arrays()
    frames = FrameSequence("w", values["z"], values["R"], values["E"][:, 0], fingerprint="")
    assert frames[2].energy == values["E"][2, 0]
    assert frames[2].forces is None


def test_selections_keep_the_number_of_the_frame():
    assert [s.properties["frame"] for s in sequence(arrays())[[3, 1]]] == [3, 1]
    assert sequence(arrays()).name_of(3) == "w.npz: frame 3"


def test_frames_can_be_pickled():
    frames = sequence(arrays())
    again = pickle.loads(pickle.dumps(frames))
    np.testing.assert_array_equal(again[3].forces, frames[3].forces)


def test_positions_and_forces_are_not_copied():
    values = arrays(20_000)
    size = values["R"].nbytes
    tracemalloc.start()
    frames = sequence(values)
    kept, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(frames) == 20_000
    # The converted energies (a ninth of the positions), and for a moment a flag for each number.
    assert kept < 0.15 * size and peak < 0.5 * size


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"R": np.zeros((4, 9))}, r"'R': expected shape \[M, n, 3\], got \[4, 9\]"),
        ({"R": np.zeros((4, 3, 2))}, r"'R': expected shape \[M, n, 3\], got \[4, 3, 2\]"),
        ({"R": np.zeros((0, 3, 3))}, "'R': 0 frames of 3 atoms"),
        ({"R": np.zeros((4, 3, 3), complex)}, "'R': expected real numbers, got .* complex128"),
        ({"z": np.array([8, 1])}, r"'z': expected shape \[3\], got \[2\]"),
        ({"z": np.array(["O", "H", "H"])}, "'z': expected real numbers, got the type <U1"),
        ({"z": np.array([8, 0, 1])}, "'z': atom 1: expected .* 1 to 118, got 0"),
        ({"z": np.array([8, 1, 119])}, "'z': atom 2: expected .* 1 to 118, got 119"),
        ({"z": np.array([8, 1.5, 1])}, "'z': atom 1: .* got 1.5"),
        ({"z": np.array([np.nan, 1, 1])}, "'z': atom 0: .* got nan"),
        ({"E": np.zeros((4, 3))}, r"'E': expected shape \[4\], got \[4, 3\]"),
        ({"E": np.zeros(3)}, r"'E': expected shape \[4\], got \[3\]"),
        ({"F": np.zeros((4, 2, 3))}, r"'F': expected shape \[4, 3, 3\], got \[4, 2, 3\]"),
        (replaced("R", (2, 1, 0), np.nan), "frame 2: 'R': not finite for atom 1: nan"),
        (replaced("F", (3, 0, 2), np.inf), "frame 3: 'F': not finite for atom 0: inf"),
        (replaced("E", 1, np.nan), "frame 1: 'E': not finite: nan"),
    ],
)
def test_what_does_not_fit_is_named(change, message):
    with pytest.raises(DataError, match=rf"^w\.npz: {message}"):
        sequence(arrays() | change)

from __future__ import annotations

import numpy as np
import pytest

from equiformer_jax.data.errors import DataError
from equiformer_jax.data.readers.qm9_npz import read_qm9_npz
from equiformer_jax.data.readers.qm9_sdf import read_qm9_sdf
from tests.data.readers.qm9_samples import published, write_npz, write_sdf


def test_characterized_molecules_are_read(tmp_path):
    molecules = read_qm9_npz(write_npz(tmp_path / "a.npz"), target="gap")
    expected = read_qm9_sdf(write_sdf(tmp_path), target="gap")[[0, 2]]
    assert molecules.ids.tolist() == [1, 3]
    for structure, other in zip(molecules, expected, strict=True):
        np.testing.assert_array_equal(structure.positions, other.positions)
        np.testing.assert_array_equal(structure.atomic_numbers, other.atomic_numbers)
        assert structure.properties == other.properties
        assert structure.energy == other.energy


LABELS = np.array([published(1), published(2), published(3)])
LABELS[2, 4] = np.nan


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"y": np.zeros((3, 18))}, r"'y': expected shape \(3, 19\)"),
        ({"y": LABELS}, "gdb_3: 'alpha': not finite"),
        ({"z": np.zeros(8)}, "'z': expected shape .* of kind iu, got .* float64"),
        ({"z": np.array([8, 1, 1, 6, 14, 1, 1, 9])}, "atom 4: 'z': expected one of .* got 14"),
        ({"z": np.array([8, 1, 1])}, r"'pos': expected shape \(3, 3\)"),
        ({"n_atoms": np.array([3, 3, 3])}, "'n_atoms': expected positive numbers that sum to 8"),
        ({"n_atoms": np.array([8, 0, 0])}, "'n_atoms': expected positive numbers that sum to 8"),
        ({"columns": np.array(["A"] * 19)}, "'columns': expected .*'A', 'B'"),
        ({"uncharacterized": np.ones(3, bool)}, "holds no molecules"),
        ({"mol_id": np.array([1, 2, 1])}, "gdb_1: is there 2 times"),
    ],
)
def test_an_array_that_does_not_fit_is_refused(tmp_path, changes, message):
    with pytest.raises(DataError, match=rf"a\.npz: {message}"):
        read_qm9_npz(write_npz(tmp_path / "a.npz", **changes))


def test_another_file_is_refused(tmp_path):
    np.savez(tmp_path / "other", R=np.zeros(3))
    with pytest.raises(DataError, match="lacks the arrays"):
        read_qm9_npz(tmp_path / "other.npz")

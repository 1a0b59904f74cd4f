from __future__ import annotations

import pickle

import numpy as np
import pytest

from equiformer_jax.data.errors import DataError
from equiformer_jax.data.readers.qm9 import read_qm9, read_uncharacterized
from tests.data.readers.qm9_samples import (
    write_sdf,
    write_tar,
    write_uncharacterized,
    write_zip,
    xyz_text,
)
from tests.paths import REAL_DATA, needs_real_data


def write_folder(folder):
    for identifier in (1, 2, 3):
        (folder / f"dsgdb9nsd_{identifier:06d}.xyz").write_text(xyz_text(identifier))
    return folder


def identifiers(structures):
    return [structure.properties["id"] for structure in structures]


FORMATS = [write_sdf, write_zip, write_tar, write_folder]


@pytest.mark.parametrize("write", FORMATS)
def test_every_format_is_read_by_file_and_by_folder(tmp_path, write):
    path = write(tmp_path)
    for structures in (read_qm9(path, target=0), read_qm9(tmp_path, target="mu")):
        assert identifiers(structures) == [1, 2, 3]
        assert [s.energy for s in structures] == [s.properties["mu"] for s in structures]


@pytest.mark.parametrize("write", FORMATS)
def test_uncharacterized_molecules_are_left_out(tmp_path, write):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    listed = write_uncharacterized(elsewhere, (2, 133866))
    path = write(tmp_path)
    assert identifiers(read_qm9(path, listed)) == [1, 3]
    # A list beside the data is found.
    write_uncharacterized(tmp_path, (1,))
    assert identifiers(read_qm9(path)) == identifiers(read_qm9(tmp_path)) == [2, 3]
    assert identifiers(read_qm9(path, listed)) == [1, 3]


def test_the_result_can_be_pickled_and_names_molecules(tmp_path):
    write_uncharacterized(tmp_path, (2,))
    structures = read_qm9(write_sdf(tmp_path))
    assert identifiers(pickle.loads(pickle.dumps(structures))) == [1, 3]
    assert structures.name_of(1) == f"{tmp_path}/gdb9.sdf: gdb_3"


def test_fingerprints_depend_on_target_and_list(tmp_path):
    path = write_sdf(tmp_path)
    listed = write_uncharacterized(tmp_path, (2,))
    prints = {read_qm9(path, target=target).fingerprint for target in (None, 0, 1)}
    listed.unlink()
    prints.add(read_qm9(path).fingerprint)
    assert len(prints) == 4


def test_a_list_of_everything_is_refused(tmp_path):
    listed = write_uncharacterized(tmp_path, (1, 2, 3))
    with pytest.raises(DataError, match=r"gdb9\.sdf: .*uncharacterized\.txt lists all"):
        read_qm9(write_sdf(tmp_path), listed)


def test_what_cannot_be_read_is_named(tmp_path):
    with pytest.raises(DataError, match=r"expected gdb9\.sdf, qm9\.zip, .* in the folder"):
        read_qm9(tmp_path)
    with pytest.raises(FileNotFoundError, match="nothing: no such file or folder"):
        read_qm9(tmp_path / "nothing")
    (tmp_path / "x.npy").touch()
    with pytest.raises(ValueError, match=r"path: expected a folder, .*x\.npy"):
        read_qm9(tmp_path / "x.npy")
    with pytest.raises(ValueError, match="unknown QM9 target 'energy'"):
        read_qm9(tmp_path / "not_opened.sdf", target="energy")
    with pytest.raises(FileNotFoundError, match="no.txt"):
        read_qm9(write_sdf(tmp_path), tmp_path / "no.txt")


def test_the_list_is_read_whatever_its_length(tmp_path):
    for listed in ((), (58,), (5, 133885, 61)):
        assert read_uncharacterized(write_uncharacterized(tmp_path, listed)).tolist() == [*listed]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("      61", "      6l", "line 8: expected a row that starts with an id, got"),
        ("      61", "\n      61", "line 8: expected a row that starts with an id, got ''"),
        ("6.036217\n" + "=" * 100, "6.036217", "expected rows between .* rulers, got 2"),
    ],
)
def test_a_damaged_list_is_refused(tmp_path, old, new, message):
    path = write_uncharacterized(tmp_path, (58, 61))
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(DataError, match=rf"uncharacterized\.txt: {message}"):
        read_uncharacterized(path)


@pytest.mark.parametrize("content", ["", "<html>Not found</html>"])
def test_another_file_is_no_list(tmp_path, content):
    path = tmp_path / "uncharacterized.txt"
    path.write_text(content)
    with pytest.raises(DataError, match=r"uncharacterized\.txt: expected rows"):
        read_uncharacterized(path)


@needs_real_data
def test_the_public_list_has_3054_molecules():
    listed = read_uncharacterized(REAL_DATA / "qm9" / "uncharacterized.txt")
    assert len(listed) == len(np.unique(listed)) == 3054
    assert (listed[0], listed[-1]) == (58, 133866)
    flags = np.load(REAL_DATA / "qm9" / "qm9_subset.npz")
    np.testing.assert_array_equal(np.isin(flags["mol_id"], listed), flags["uncharacterized"])

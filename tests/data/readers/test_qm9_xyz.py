from __future__ import annotations

import bz2

import numpy as np
import pytest

from equiformer_jax.data.errors import DataError
from equiformer_jax.data.readers.qm9_npz import read_qm9_npz
from equiformer_jax.data.readers.qm9_sdf import read_qm9_sdf
from equiformer_jax.data.readers.qm9_xyz import parse_qm9_xyz, read_qm9_tar, read_qm9_xyz_folder
from tests.data.readers.qm9_samples import write_sdf, write_tar, xyz_text
from tests.paths import REAL_DATA, needs_real_data

RAW = REAL_DATA / "qm9" / "raw_xyz"


def assert_as_sdf(molecules, tmp_path):
    """The raw files give what the table gives, the columns `*_atom` of which they lack."""
    expected = read_qm9_sdf(write_sdf(tmp_path))
    assert molecules.ids.tolist() == expected.ids.tolist()
    np.testing.assert_allclose(molecules.targets, expected.targets, rtol=1e-12)
    for structure, other in zip(molecules, expected, strict=True):
        np.testing.assert_array_equal(structure.positions, other.positions)
        np.testing.assert_array_equal(structure.atomic_numbers, other.atomic_numbers)


def test_the_public_archive_is_read(tmp_path):
    assert_as_sdf(read_qm9_tar(write_tar(tmp_path)), tmp_path)


def test_members_out_of_order_are_sorted(tmp_path):
    assert_as_sdf(read_qm9_tar(write_tar(tmp_path, (2, 3, 1))), tmp_path)


def test_a_folder_is_read(tmp_path):
    folder = tmp_path / "raw"
    folder.mkdir()
    for identifier in (3, 1, 2):
        (folder / f"{9 - identifier}.xyz").write_text(xyz_text(identifier))
    (folder / "readme.txt").write_text("something else")
    assert_as_sdf(read_qm9_xyz_folder(folder), tmp_path)


def test_one_text_becomes_a_structure():
    structure = parse_qm9_xyz(xyz_text(2), "x.xyz", target="u298_atom")
    assert structure.properties["id"] == 2
    assert structure.energy == structure.properties["u298_atom"]


@pytest.mark.parametrize(("text", "value"), [("6.*^-6", 6e-6), ("-1.25*^-7", -1.25e-7)])
def test_exponents_of_mathematica_are_read(text, value):
    structure = parse_qm9_xyz(xyz_text(2).replace("-1.2345000000", text), "x.xyz")
    assert structure.positions[0].tolist() == [value, 0.5, 10.25]
    structure = parse_qm9_xyz(xyz_text(2).replace("\t21.5\t", f"\t{text}\t"), "x.xyz")
    assert structure.properties["alpha"] == value


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("-1.2345", "-1.2x45", r"'x': atom 0: expected a number, got '-1\.2x45000000'"),
        ("\t 0.5000000000", "", "'atoms': atom 0: expected an element, x, y, z and a charge"),
        ("-1.2345000000", "inf", "'positions': atom 0: not finite"),
        ("C\t-", "Q\t-", "'element': atom 0: expected one of H, C, N, O, F, got 'Q'"),
        ("21.5", "2l.5", "'alpha': expected a number, got '2l.5'"),
        ("21.5", "nan", "'alpha': not finite: nan"),
        ("\t21.5", "", "'labels': expected 'gdb', an id and 15 numbers"),
        ("gdb 2", "gdb 2x", "'id': expected a whole number, got '2x'"),
        ("gdb 2", "abc 2", "'labels': expected 'gdb'"),
        ("3\ngdb", "4\ngdb", "'number of atoms': expected 9 lines for it, got 8"),
        ("3\ngdb", "2\ngdb", "'number of atoms': expected 7 lines for it, got 8"),
        ("3\ngdb", "three\ngdb", "'number of atoms': expected the number of atoms"),
        ("100.5\t200.25\n", "", "'number of atoms': expected 8 lines for it, got 7"),
        (xyz_text(2), "", "'number of atoms': expected the number of atoms in the first line"),
        (xyz_text(2), "<html>\n</html>", "'number of atoms': .* got '<html>'"),
    ],
)
def test_a_damaged_file_is_named(tmp_path, old, new, message):
    assert old in xyz_text(2)
    (tmp_path / "a.xyz").write_text(xyz_text(1))
    (tmp_path / "b.xyz").write_text(xyz_text(2).replace(old, new, 1))
    with pytest.raises(DataError, match=rf"{tmp_path}: (b\.xyz|gdb_2): {message}"):
        read_qm9_xyz_folder(tmp_path)


@pytest.mark.parametrize("kept", [0, 0.1, 0.6, 0.99])
def test_a_truncated_archive_is_refused(tmp_path, kept):
    path = write_tar(tmp_path)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(DataError, match=r"tar\.bz2: expected a tar\.bz2 archive"):
        read_qm9_tar(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"<html>Not found</html>", "expected a tar.bz2 archive, but this is a web page"),
        (bz2.compress(b"no archive" * 200), "expected a tar.bz2 archive, but this is a bzip2"),
        (bz2.compress(bytes(10240)), "holds no molecules"),
    ],
)
def test_what_is_no_archive_is_refused(tmp_path, content, message):
    path = tmp_path / "dsgdb9nsd.xyz.tar.bz2"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_qm9_tar(path)


def test_what_is_missing_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"x\.tar\.bz2"):
        read_qm9_tar(tmp_path / "x.tar.bz2")
    with pytest.raises(FileNotFoundError, match=r"raw: no such folder"):
        read_qm9_xyz_folder(tmp_path / "raw")
    with pytest.raises(DataError, match="holds no molecules"):
        read_qm9_xyz_folder(tmp_path)


@needs_real_data
@pytest.mark.parametrize("identifier", [1, 5])
def test_public_raw_files_agree_with_the_public_table(identifier):
    file = RAW / f"dsgdb9nsd_{identifier:06d}.xyz"
    structure = parse_qm9_xyz(file.read_text(), file)
    molecules = read_qm9_npz(REAL_DATA / "qm9" / "qm9_subset.npz")
    other = molecules[int(np.flatnonzero(molecules.ids == identifier)[0])]
    np.testing.assert_allclose(structure.positions, other.positions, atol=1e-12)
    assert structure.properties == pytest.approx(other.properties, rel=1e-9)


@needs_real_data
def test_both_notations_of_an_exponent_give_the_same_molecule():
    plain, edited = (
        parse_qm9_xyz((RAW / name).read_text(), name)
        for name in (
            "dsgdb9nsd_000212.xyz",
            "EDITED_dsgdb9nsd_000212.mathematica_exponent.xyz",
        )
    )
    assert "*^" in (RAW / "EDITED_dsgdb9nsd_000212.mathematica_exponent.xyz").read_text()
    assert edited.positions[0, 0] == 2.1997e-6
    np.testing.assert_array_equal(plain.positions, edited.positions)
    assert plain.properties == edited.properties

from __future__ import annotations

import csv

import numpy as np
import pytest

from equiformer_jax.data.errors import DataError
from equiformer_jax.data.readers.qm9_npz import read_qm9_npz
from equiformer_jax.data.readers.qm9_sdf import read_qm9_sdf, read_qm9_zip
from tests.data.readers.qm9_samples import (
    GEOMETRIES,
    csv_table,
    published,
    sdf_record,
    write_sdf,
    write_zip,
)
from tests.paths import REAL_DATA, needs_real_data

HTML = "<!DOCTYPE html>\n<html><body>Not found</body></html>\n"


def assert_samples(molecules):
    assert molecules.ids.tolist() == list(GEOMETRIES)
    for structure, (identifier, atoms) in zip(molecules, GEOMETRIES.items(), strict=True):
        numbers = [{"H": 1, "C": 6, "N": 7, "O": 8, "F": 9}[atom[0]] for atom in atoms]
        assert structure.atomic_numbers.tolist() == numbers
        assert structure.positions.tolist() == [list(atom[1:]) for atom in atoms]
        labels = published(identifier)
        assert structure.properties["id"] == identifier
        assert structure.properties["alpha"] == structure.energy == labels[4]
        assert structure.properties["C"] == labels[2]
        assert structure.properties["g298_atom"] == pytest.approx(labels[18] * 0.04336414)
        # The same energy of atomization, by way of Hartree.
        assert structure.properties["g298"] == pytest.approx(labels[18] * 0.04336414, rel=1e-6)


def test_records_and_rows_become_structures(tmp_path):
    assert_samples(read_qm9_sdf(write_sdf(tmp_path), target="alpha"))


def test_the_archive_is_read_without_unpacking(tmp_path):
    assert_samples(read_qm9_zip(write_zip(tmp_path), target="alpha"))


def test_records_out_of_order_are_sorted(tmp_path):
    assert_samples(read_qm9_sdf(write_sdf(tmp_path, (3, 1, 2)), target="alpha"))


def test_columns_may_touch(tmp_path):
    path = write_sdf(tmp_path)
    path.write_text(path.read_text().replace("    0.7572   -0.4692", "-1000.2500-2000.5000"))
    assert read_qm9_sdf(path)[0].positions[1].tolist() == [0.0, -1000.25, -2000.5]


def test_other_properties_and_windows_line_ends_are_taken(tmp_path):
    path = write_sdf(tmp_path)
    text = path.read_text().replace("M  END", "M  CHG  2   1   1   2  -1\nM  END")
    path.write_bytes(text.replace("\n", "\r\n").encode())
    assert_samples(read_qm9_sdf(path, target="alpha"))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("-1.2345", "-1.2x45", r"gdb_2: 'x': atom 0: expected a number, got '-1\.2x45'"),
        ("-1.2345", "    nan", "gdb_2: 'positions': atom 0: not finite"),
        (" C  ", " Xx ", "gdb_2: 'element': atom 0: expected one of H, C, N, O, F, got 'Xx'"),
        (" C  ", " Si ", "gdb_2: 'element': atom 0: expected one of H, C, N, O, F, got 'Si'"),
        ("  3  2  0", "  2  2  0", "gdb_1: 'counts line': expected 2 atoms, 2 bonds"),
        ("  3  2  0", "  3 20  0", "gdb_1: 'counts line': expected 3 atoms, 20 bonds"),
        ("  3  2  0", "  a  2  0", "gdb_1: 'counts line': expected the numbers"),
        ("  2  1  0", "  0  0  0", "gdb_3: 'counts line': expected the numbers"),
        ("V2000", "V3000", "gdb_1: 'counts line': expected the numbers"),
        ("gdb_2", "gdb_x", "record 1: expected a title like gdb_17, got 'gdb_x'"),
        ("$$$$\ngdb_2", "$$$$\n$$$$\ngdb_2", "record 1: expected a title and a counts line"),
        (sdf_record(3), sdf_record(3)[:-20], r"record 2: the file ends before .*\$\$\$\$"),
        (sdf_record(3), "", "ends after 2 molecules; .*gdb9.sdf.csv has 3 rows"),
    ],
)
def test_a_damaged_record_is_named(tmp_path, old, new, message):
    path = write_sdf(tmp_path)
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(DataError, match=f"gdb9.sdf: {message}"):
        read_qm9_sdf(path)


ROW = csv_table((2,)).split("\n")[1]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("mol_id,A", "id,A", "csv: expected the header mol_id,A,B"),
        ("gap,r2", "r2,gap", "csv: expected the header mol_id,A,B"),
        (ROW, ROW.replace("21.5", "n/a"), "csv: gdb_2: 'alpha': expected a number, got 'n/a'"),
        (ROW, ROW.replace("21.5", ""), "csv: gdb_2: 'alpha': expected a number, got ''"),
        (ROW, ROW.replace("21.5", "nan"), "csv: gdb_2: 'alpha': not finite: nan"),
        (ROW, ROW.rsplit(",", 1)[0], "csv: gdb_2: expected 20 columns, got 19"),
        (ROW, "", "csv: record 1: expected 20 columns, got 1"),
        (ROW + "\n", "", "csv: gdb_3: expected the row of gdb_2, which is record 1 of .*sdf"),
        (csv_table((1, 2, 3)), csv_table((1, 2)), "gdb9.sdf: gdb_3: has no row: .*csv ends before"),
        (csv_table((1, 2, 3)), csv_table((1, 3, 2)), "csv: gdb_3: expected the row of gdb_2"),
        (csv_table((1, 2, 3)), csv_table((1, 2, 3))[:-3], "csv: gdb_3: the last row has no line b"),
        (csv_table((1, 2, 3)), HTML, "csv: expected the header .*, got '<!DOCTYPE html>'"),
        (csv_table((1, 2, 3)), "", "csv: expected the header .*, got ''"),
    ],
)
def test_a_damaged_table_is_named(tmp_path, old, new, message):
    path = write_sdf(tmp_path)
    table = tmp_path / "gdb9.sdf.csv"
    assert old in table.read_text()
    table.write_text(table.read_text().replace(old, new))
    with pytest.raises(DataError, match=message):
        read_qm9_sdf(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (HTML, "record 0: the file ends before"),
        ("", r"ends after 0 molecules; .*csv has 3 rows"),
        ("\udcff\udcfe\x00", "record 0: the file ends before"),
    ],
)
def test_what_is_no_sdf_is_refused(tmp_path, content, message):
    path = write_sdf(tmp_path)
    path.write_text(content, errors="surrogateescape")
    with pytest.raises(DataError, match=f"gdb9.sdf: {message}"):
        read_qm9_sdf(path)


def test_files_without_molecules_are_refused(tmp_path):
    with pytest.raises(DataError, match="gdb9.sdf: holds no molecules"):
        read_qm9_sdf(write_sdf(tmp_path, ()))


def test_missing_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"gdb9\.sdf'"):
        read_qm9_sdf(tmp_path / "gdb9.sdf")
    path = write_sdf(tmp_path)
    (tmp_path / "gdb9.sdf.csv").unlink()
    with pytest.raises(FileNotFoundError, match=r"gdb9\.sdf\.csv"):
        read_qm9_sdf(path)


@pytest.mark.parametrize("kept", [0, 0.2, 0.95])
def test_a_truncated_archive_is_refused(tmp_path, kept):
    path = write_zip(tmp_path)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(DataError, match=r"qm9\.zip: expected a zip archive"):
        read_qm9_zip(path)


def test_damaged_bytes_in_an_archive_are_refused(tmp_path):
    path = write_zip(tmp_path)
    content = bytearray(path.read_bytes())
    content[100:110] = bytes(10)
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"qm9\.zip"):
        read_qm9_zip(path)


def test_another_archive_is_refused(tmp_path):
    path = tmp_path / "qm9.zip"
    path.write_text(HTML)
    with pytest.raises(
        DataError, match=r"qm9\.zip: expected a zip archive, but this is a web page"
    ):
        read_qm9_zip(path)
    np.savez(tmp_path / "other", x=np.zeros(1))
    with pytest.raises(DataError, match="expected one file gdb9.sdf inside, got 0"):
        read_qm9_zip(tmp_path / "other.npz")


def test_a_record_of_an_archive_is_named(tmp_path):
    with pytest.raises(DataError, match=r"qm9\.zip/gdb9\.sdf: gdb_2: is there 2 times"):
        read_qm9_zip(write_zip(tmp_path, (1, 2, 2)))


@needs_real_data
def test_the_first_public_molecules_are_read():
    molecules = read_qm9_sdf(REAL_DATA / "qm9" / "deepchem_mini" / "qm9_mini.sdf", target="u0")
    assert molecules.ids.tolist() == list(range(1, 22))
    methane = molecules[0]
    assert methane.atomic_numbers.tolist() == [6, 1, 1, 1, 1]
    assert methane.positions[0].tolist() == [-0.0127, 1.0858, 0.008]
    hartree = -40.47893 + 37.846772 + 4 * 0.500273
    assert methane.energy == pytest.approx(hartree * 27.211386246)
    # The same molecules with the ten decimals of the raw files.
    precise = {s.properties["id"]: s for s in read_qm9_npz(REAL_DATA / "qm9" / "qm9_subset.npz")}
    compared = [s for s in molecules if s.properties["id"] in precise]
    assert len(compared) == 6
    for structure in compared:
        other = precise[structure.properties["id"]]
        np.testing.assert_allclose(structure.positions, other.positions, atol=5.1e-5)
        assert structure.properties == pytest.approx(other.properties, rel=1e-9)


@needs_real_data
def test_the_public_table_agrees_with_itself_and_the_references():
    molecules = read_qm9_npz(REAL_DATA / "qm9" / "qm9_subset.npz")
    difference = (molecules.targets[:, 7:11] - molecules.targets[:, 12:16]) / 0.04336414
    assert np.abs(difference).max() < 0.01  # kcal/mol
    with (REAL_DATA / "qm9" / "qm9_subset.sdf.csv").open() as file:
        rows = {int(row["mol_id"].removeprefix("gdb_")): row for row in csv.DictReader(file)}
    assert len(rows) == 4835 and len(molecules) == 4773
    for name, number, factor in (("alpha", 1, 1), ("u298_atom", 13, 0.04336414), ("B", 17, 1)):
        expected = np.array([float(rows[i][name]) for i in molecules.ids.tolist()]) * factor
        np.testing.assert_allclose(molecules.targets[:, number], expected, rtol=1e-14)

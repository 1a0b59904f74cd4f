from __future__ import annotations

import pickle

import ase
import ase.db
import numpy as np
import pytest
from ase.calculators.singlepoint import SinglePointCalculator

from equiformer_jax.data.errors import DataError
from equiformer_jax.data.readers.ase_database import read_ase_database
from equiformer_jax.data.readers.label_keys import LabelKeys

ENDINGS = pytest.mark.parametrize("ending", [".db", ".json"])


def make(path, count=4, labels=True):
    database = ase.db.connect(path)
    for number in range(count):
        atoms = ase.Atoms("CO", [[0, 0, 0], [0, 0, 1 + number]])
        if labels:
            forces = np.full((2, 3), float(number))
            atoms.calc = SinglePointCalculator(atoms, energy=-1.0 * number, forces=forces)
        database.write(
            atoms,
            key_value_pairs={"REF_energy": 10.0 * number, "kind": "odd" if number % 2 else "even"},
            data={"REF_forces": np.full((2, 3), 10.0 * number), "REF_array": np.array([number])},
        )
    return path


@ENDINGS
def test_rows_are_read_with_their_labels(tmp_path, ending):
    rows = read_ase_database(make(tmp_path / f"a{ending}"))
    assert [row.energy for row in rows] == [0, -1, -2, -3]
    assert rows[3].forces[0].tolist() == [3, 3, 3]
    assert rows[3].positions[1].tolist() == [0, 0, 4]
    assert rows[1].properties["kind"] == "odd"
    assert rows.name_of(3).endswith(f"a{ending}: row 4")


@ENDINGS
def test_labels_are_found_in_key_value_pairs_and_in_data(tmp_path, ending):
    keys = LabelKeys(energy="REF_energy", forces="REF_forces", energy_unit="meV")
    row = read_ase_database(make(tmp_path / f"a{ending}"), keys)[2]
    assert row.energy == 20e-3
    assert row.forces[0].tolist() == [20e-3] * 3
    row = read_ase_database(tmp_path / f"a{ending}", LabelKeys(energy="REF_array"))[2]
    assert row.energy == 2.0
    assert set(row.properties) == {"REF_energy", "REF_forces", "kind"}


@ENDINGS
def test_rows_are_selected(tmp_path, ending):
    path = make(tmp_path / f"a{ending}")
    rows = read_ase_database(path, selection="kind=odd,REF_energy>15")
    assert rows.ids.tolist() == [4]
    assert read_ase_database(path, selection="C=1,energy<-1").ids.tolist() == [3, 4]
    with pytest.raises(DataError, match="no rows that fit 'kind=none' in this database"):
        read_ase_database(path, selection="kind=none")
    with pytest.raises(ValueError, match="selection: 'H<many'"):
        read_ase_database(path, selection="H<many")


def test_numbers_of_rows_need_not_be_consecutive(tmp_path):
    path = make(tmp_path / "a.db")
    ase.db.connect(path).delete([2])
    assert [row.energy for row in read_ase_database(path)] == [0, -2, -3]


@ENDINGS
def test_a_pickled_sequence_reads_on(tmp_path, ending):
    rows = read_ase_database(make(tmp_path / f"a{ending}"))
    assert pickle.loads(pickle.dumps(rows))[2].energy == -2


def test_the_fingerprint_tells_how_the_file_is_read(tmp_path):
    path = make(tmp_path / "a.db")
    keys = LabelKeys(energy_unit="meV")
    ways = [(path,), (path, keys), (path, None, "kind=odd")]
    assert len({read_ase_database(*way).fingerprint for way in ways}) == 3


def test_a_missing_label_is_told(tmp_path):
    path = make(tmp_path / "a.db")
    message = r"a\.db: row 1: 'dft': not there; there are \['REF_array', 'REF_energy', .*'energy'"
    with pytest.raises(DataError, match=message):
        read_ase_database(path, LabelKeys(energy="dft"))
    make(path, count=1, labels=False)
    rows = read_ase_database(path)
    with pytest.raises(DataError, match="row 5: 'energy': missing here, but row 1 has it"):
        rows[4]


@ENDINGS
@pytest.mark.parametrize("content", [b"", b"something else" * 100, b"[1, 2]"])
def test_other_contents_under_the_name_are_refused_and_stay(tmp_path, ending, content):
    path = tmp_path / f"a{ending}"
    path.write_bytes(content)
    with pytest.raises(DataError, match=f"a{ending}: (not an ASE database|no rows)"):
        read_ase_database(path)
    assert path.read_bytes() == content


def test_an_empty_file_is_said_to_be_one(tmp_path):
    path = tmp_path / "a.db"
    path.touch()
    with pytest.raises(DataError, match=r"a\.db: not an ASE database; this is an empty file: "):
        read_ase_database(path)


def test_a_database_without_rows_is_refused(tmp_path):
    path = make(tmp_path / "a.db", count=1)
    ase.db.connect(path).delete([1])
    with pytest.raises(DataError, match="no rows in this database"):
        read_ase_database(path)


def test_missing_files_and_other_endings_are_told(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"a\.db: no such file"):
        read_ase_database(tmp_path / "a.db")
    (tmp_path / "a.lmdb").write_bytes(b"")
    with pytest.raises(DataError, match=r"a\.lmdb: expected a database called \.db or \.json"):
        read_ase_database(tmp_path / "a.lmdb")

from __future__ import annotations

import pickle

import numpy as np
import pytest

from equiformer_jax.data.errors import DataError
from equiformer_jax.data.structures import (
    Selection,
    StructureList,
    as_sequence,
    digest,
    file_fingerprint,
)
from equiformer_jax.structure import Structure


@pytest.fixture
def structures():
    return StructureList(
        [Structure(np.zeros((1, 3)), [1], energy=float(n)) for n in range(6)], "six"
    )


def energies(sequence):
    return [structure.energy for structure in sequence]


def test_selections_select(structures):
    assert energies(structures[1:4]) == [1, 2, 3]
    assert energies(structures[np.array([5, 0])]) == [5, 0]
    assert energies(structures[[5, 0, 3]][1:]) == [0, 3]
    assert structures[-1].energy == 5
    assert structures[[5, 0]].name_of(1) == "six: structure 0"


def test_a_selection_of_a_selection_refers_to_the_source(structures):
    again = structures[2:][::2]
    assert isinstance(again, Selection)
    assert again.indices.tolist() == [2, 4]


@pytest.mark.parametrize("index", [6, -7])
def test_an_index_outside_is_refused(structures, index):
    with pytest.raises(IndexError, match=f"structure {index} of 6"):
        structures[index]


def test_a_selection_outside_is_refused(structures):
    with pytest.raises(IndexError, match="structure 6 of 6"):
        structures[[0, 6]]
    with pytest.raises(IndexError, match="structure -1 of 6"):
        structures[[-1]]


@pytest.mark.parametrize("index", [np.ones(6, bool), [0.0, 1.0], [True], 1.5, "1"])
def test_what_is_no_integer_is_refused(structures, index):
    with pytest.raises(TypeError):
        structures[index]


def test_nothing_can_be_selected(structures):
    assert len(structures[[]]) == len(structures[3:3]) == 0


def test_fingerprints_tell_contents_and_selections_apart(structures):
    other = StructureList([*list(structures)[:5], Structure(np.ones((1, 3)), [1])], "six")
    prints = [
        s.fingerprint
        for s in (structures, other, structures[:3], structures[3:], structures[2::-1])
    ]
    assert len(set(prints)) == len(prints)
    assert structures[:3].fingerprint == structures[[0, 1, 2]].fingerprint


def test_digest_depends_on_where_parts_end():
    assert digest("ab", "c") != digest("a", "bc")


def test_a_changed_file_has_another_fingerprint(tmp_path):
    path = tmp_path / "data"
    path.write_text("one")
    first = file_fingerprint(path)
    assert file_fingerprint(path) == first
    assert file_fingerprint(path, "option") != first
    path.write_text("three")
    assert file_fingerprint(path) != first


def test_sequences_can_be_pickled(structures):
    assert energies(pickle.loads(pickle.dumps(structures[1:3]))) == [1, 2]


def test_lists_become_sequences(structures):
    assert as_sequence(structures, "x") is structures
    assert as_sequence(list(structures), "x").name_of(2) == "x: structure 2"


def test_errors_name_file_record_and_field():
    error = DataError("a.npz", "not finite", record=3, field="F")
    assert str(error) == "a.npz: record 3: 'F': not finite"
    assert str(DataError("a.npz", "truncated", record="frame 2")) == "a.npz: frame 2: truncated"
    again = pickle.loads(pickle.dumps(error))
    assert isinstance(again, DataError)
    assert str(again) == str(error)

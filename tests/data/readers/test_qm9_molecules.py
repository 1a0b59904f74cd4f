from __future__ import annotations

import pickle

import numpy as np
import pytest

from equiformer_jax.data.errors import DataError
from equiformer_jax.data.readers.qm9_molecules import QM9Molecules
from equiformer_jax.data.readers.qm9_targets import TARGETS
from tests.data.readers.qm9_samples import published


def molecules(ids=(7, 2), target=None, x=0.5, label=1.0):
    labels = np.array([published(1), published(2)])
    labels[1, 4] = label
    positions = np.arange(15.0).reshape(5, 3)
    positions[3, 0] = x
    return QM9Molecules(
        "qm9", np.array(ids), np.array([2, 3]), np.array([1, 9, 6, 7, 1]), positions, labels, target
    )


def test_molecules_are_in_the_order_of_their_ids():
    both = molecules()
    assert both.ids.tolist() == [2, 7]
    assert [structure.properties["id"] for structure in both] == [2, 7]
    assert both[0].atomic_numbers.tolist() == [6, 7, 1]
    assert both[1].atomic_numbers.tolist() == [1, 9]
    assert both[1].positions.tolist() == [[0, 1, 2], [3, 4, 5]]
    assert both[0].properties["A"] == published(2)[0]
    assert both.name_of(0) == "qm9: gdb_2"


def test_the_energy_is_the_target_in_its_own_unit():
    assert molecules()[0].energy is None
    for target in TARGETS:
        structure = molecules(target=target.number)[1]
        assert structure.energy == structure.properties[target.name]


def test_properties_hold_every_target():
    assert set(molecules()[0].properties) == {"id", *(target.name for target in TARGETS)}


def test_the_fingerprint_depends_on_contents_and_target():
    sets = (molecules(), molecules(target=1), molecules(target=2), molecules(ids=(7, 3)))
    sets += (molecules(x=0.25), molecules(label=2.0))
    assert len({s.fingerprint for s in sets}) == len(sets)
    assert molecules().fingerprint == molecules().fingerprint


def test_molecules_can_be_pickled():
    before = molecules(target="alpha")
    after = pickle.loads(pickle.dumps(before))
    assert [s.energy for s in after] == [s.energy for s in before]
    assert after.fingerprint == before.fingerprint


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ids": (2, 2)}, "qm9: gdb_2: is there 2 times"),
        ({"label": np.nan}, "qm9: gdb_2: 'alpha': not finite: nan"),
        ({"x": np.inf}, "qm9: gdb_2: 'positions': atom 1: not finite"),
    ],
)
def test_impossible_molecules_are_refused(changes, message):
    with pytest.raises(DataError, match=message):
        molecules(**changes)


def test_an_unknown_target_is_refused():
    with pytest.raises(ValueError, match="unknown QM9 target 'energy'"):
        molecules(target="energy")

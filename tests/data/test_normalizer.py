from __future__ import annotations

import numpy as np
import pytest

from equiformer_jax.data.graph_building import build_graph_store
from equiformer_jax.data.normalizer import Normalizer
from equiformer_jax.data.statistics import compute_statistics
from equiformer_jax.data.structures import StructureList
from equiformer_jax.structure import Structure

UNSET = {"mean": None, "std": None, "reference_energies": False}


def molecule(numbers, energy):
    positions = np.arange(len(numbers))[:, None] * [1.0, 0, 0]
    return Structure(positions, numbers, energy=energy)


@pytest.fixture(scope="module")
def structures():
    energies = {(1, 1): -2.1, (1, 8): -11.0, (1, 1, 8): -11.9, (8, 8): -20.2}
    return StructureList([molecule(z, energy) for z, energy in energies.items()], "four")


@pytest.fixture(scope="module")
def store(structures):
    return build_graph_store(structures, 5.0)


@pytest.fixture(scope="module")
def statistics(store):
    return compute_statistics(store)


def test_the_training_split_standardizes_unless_told(statistics, structures, store):
    normalizer = Normalizer.from_settings(UNSET, statistics)
    assert normalizer.mean == statistics.energy_mean
    assert normalizer.scale == statistics.energy_std
    assert normalizer.offset(structures[2]) == statistics.energy_mean
    np.testing.assert_array_equal(normalizer.offsets(store), np.full(4, statistics.energy_mean))


def test_published_numbers_are_taken(statistics):
    normalizer = Normalizer.from_settings({**UNSET, "mean": -1.5, "std": 2.25}, statistics)
    assert (normalizer.mean, normalizer.scale) == (-1.5, 2.25)
    half = Normalizer.from_settings({**UNSET, "std": 1.0}, statistics)
    assert (half.mean, half.scale) == (statistics.energy_mean, 1.0)


def test_reference_energies_are_summed_over_the_atoms(statistics, structures, store):
    normalizer = Normalizer.from_settings({**UNSET, "reference_energies": True}, statistics)
    hydrogen, oxygen = statistics.reference_energies[1], statistics.reference_energies[8]
    expected = [2 * hydrogen, hydrogen + oxygen, 2 * hydrogen + oxygen, 2 * oxygen]
    np.testing.assert_allclose(normalizer.offsets(store), expected, rtol=1e-12)
    assert [normalizer.offset(s) for s in structures] == pytest.approx(expected)
    assert normalizer.scale == statistics.energy_std_referenced


def test_an_element_without_a_reference_is_named(statistics):
    normalizer = Normalizer.from_settings({**UNSET, "reference_energies": True}, statistics)
    carbon = StructureList([molecule((6, 1), 0.0)], "methylidyne")
    with pytest.raises(ValueError, match=r"no reference energy for the atomic numbers \[6\]"):
        normalizer.offsets(build_graph_store(carbon, 5.0))


def test_contradictions_are_refused(statistics):
    with pytest.raises(ValueError, match="expected one of them"):
        Normalizer.from_settings({"mean": 0.0, "std": 1.0, "reference_energies": True}, statistics)
    with pytest.raises(ValueError, match="std"):
        Normalizer.from_settings({**UNSET, "std": 0.0}, statistics)

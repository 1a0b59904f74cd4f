from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from equiformer_jax import Structure
from equiformer_jax.data.graph_building import build_graph_store
from equiformer_jax.data.statistics import DatasetStatistics, compute_statistics
from equiformer_jax.data.structures import StructureList


def structures_with(energies, forces=True):
    generator = np.random.default_rng(1)
    for index, energy in enumerate(energies):
        count = 2 + index % 3
        yield Structure(
            np.arange(count)[:, None] * np.ones(3),
            np.full(count, 6),
            energy=energy,
            forces=generator.normal(size=(count, 3)) if forces else None,
        )


def statistics_of(structures):
    return compute_statistics(build_graph_store(StructureList(structures, "made up"), 2.0))


def test_statistics_by_numpy():
    # The spread is tiny beside the mean: a sum of squares would lose all of it.
    energies = -4.0e5 + np.random.default_rng(0).normal(size=50) * 1e-3
    structures = list(structures_with(energies))
    statistics = statistics_of(structures)
    atoms = np.array([s.num_atoms for s in structures])
    forces = np.concatenate([s.forces for s in structures])
    assert statistics.num_structures == 50
    assert statistics.energy_mean == pytest.approx(energies.mean(), rel=1e-15)
    assert statistics.energy_std == pytest.approx(energies.std(ddof=1), rel=1e-6)
    assert statistics.average_nodes == pytest.approx(atoms.mean())
    assert statistics.average_degree == pytest.approx((2 * (atoms - 1)).sum() / atoms.sum())
    assert statistics.force_rms == pytest.approx(np.sqrt((forces**2).mean()))
    assert (statistics.energy_min, statistics.energy_max) == (energies.min(), energies.max())
    assert statistics.element_counts == {6: atoms.sum()}
    per_atom = (atoms @ energies) / (atoms @ atoms)
    assert statistics.reference_energies == pytest.approx({6: per_atom})
    assert statistics.reference_energies_unique
    left = energies - atoms * per_atom
    assert statistics.energy_std_referenced == pytest.approx(left.std(ddof=1))


def test_frames_of_one_molecule_have_no_unique_references():
    structures = [
        dataclasses.replace(s, atomic_numbers=[6, 1])
        for s in structures_with([1.0, 0.0, 0.0, 4.0])
        if s.num_atoms == 2
    ]
    statistics = statistics_of(structures)
    assert statistics.element_counts == {1: 2, 6: 2}
    assert not statistics.reference_energies_unique
    assert statistics.energy_std_referenced == pytest.approx(statistics.energy_std)


def test_saved_statistics_come_back_bit_for_bit(tmp_path):
    statistics = statistics_of(list(structures_with([0.1, 0.2, 0.7])))
    statistics.save(tmp_path / "statistics.json")
    assert DatasetStatistics.load(tmp_path / "statistics.json") == statistics


def test_statistics_without_the_newer_fields_are_read():
    old = {
        "num_structures": 3,
        "energy_mean": 0.1,
        "energy_std": 0.2,
        "average_degree": 15.0,
        "average_nodes": 21.0,
        "force_rms": None,
    }
    statistics = DatasetStatistics.from_dict(old)
    assert statistics == DatasetStatistics(**old)
    assert statistics.reference_energies is None
    assert DatasetStatistics.from_dict(dataclasses.asdict(statistics)) == statistics


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"energy_sdt": 1.0}, "energy_sdt"),
        ({"reference_energies": [1.0]}, "'reference_energies': expected values by atomic number"),
        ({"element_counts": {"C": 1}}, "'element_counts': expected values by atomic number"),
    ],
)
def test_other_fields_and_kinds_are_refused(change, message):
    values = dataclasses.asdict(statistics_of(list(structures_with([0.1, 0.2]))))
    with pytest.raises(ValueError, match=message):
        DatasetStatistics.from_dict(values | change)


def test_published_normalizers_take_the_place_of_computed_ones():
    computed = statistics_of(list(structures_with([0.1, 0.2, 0.7])))
    published = computed.with_normalizer(-1.525913953781128, 2.279365062713623)
    assert (published.energy_mean, published.energy_std) == (-1.525913953781128, 2.279365062713623)
    assert computed.energy_mean == pytest.approx(1 / 3)
    assert published.with_normalizer(computed.energy_mean, computed.energy_std) == computed


@pytest.mark.parametrize(
    ("mean", "std", "message"),
    [(np.nan, 1.0, "mean"), (0.0, 0.0, "std"), (0.0, -1.0, "std"), (0.0, np.inf, "std")],
)
def test_impossible_normalizers_are_refused(mean, std, message):
    statistics = statistics_of(list(structures_with([0.1, 0.2])))
    with pytest.raises(ValueError, match=f"{message}: expected"):
        statistics.with_normalizer(mean, std)


def test_references_that_were_taken_off_before_do_not_count():
    structures = StructureList(list(structures_with([0.1, 0.2, 0.7])), "made up")
    store = build_graph_store(structures, 2.0)
    assert compute_statistics(store.relative_to(0.5)).energy_mean == pytest.approx(1 / 3)


def test_energies_alone_have_no_force_scale():
    assert statistics_of(list(structures_with([1.0, 2.0], forces=False))).force_rms is None


@pytest.mark.parametrize(
    ("energies", "message"),
    [
        ([None, None], "have no energy"),
        ([1.0], "at least two"),
        ([2.0, 2.0], "all 2 energies are equal"),
    ],
)
def test_unusable_labels_are_named(energies, message):
    with pytest.raises(ValueError, match=message):
        statistics_of(list(structures_with(energies)))


@pytest.mark.parametrize("text", ["{", "[1]", "1", json.dumps({"energy_mean": 1.0})])
def test_a_damaged_file_is_named(tmp_path, text):
    path = tmp_path / "statistics.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=str(path)):
        DatasetStatistics.load(path)

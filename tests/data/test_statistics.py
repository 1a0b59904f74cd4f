from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from equiformer_jax import Structure, build_graph
from equiformer_jax.data.statistics import DatasetStatistics, compute_statistics


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
    return compute_statistics(structures, [build_graph(s, cutoff=2.0) for s in structures])


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


def test_saved_statistics_come_back_bit_for_bit(tmp_path):
    statistics = statistics_of(list(structures_with([0.1, 0.2, 0.7])))
    statistics.save(tmp_path / "statistics.json")
    assert DatasetStatistics.load(tmp_path / "statistics.json") == statistics


def test_energies_alone_have_no_force_scale():
    assert statistics_of(list(structures_with([1.0, 2.0], forces=False))).force_rms is None


@pytest.mark.parametrize(
    ("energies", "message"),
    [
        ([1.0, None], "structure 1 has no energy"),
        ([1.0], "at least two"),
        ([2.0, 2.0], "all 2 energies are equal"),
    ],
)
def test_unusable_labels_are_named(energies, message):
    with pytest.raises(ValueError, match=message):
        statistics_of(list(structures_with(energies)))


def test_forces_for_some_structures_only_are_an_error():
    structures = list(structures_with([1.0, 2.0]))
    structures[1] = dataclasses.replace(structures[1], forces=None)
    with pytest.raises(ValueError, match="all or none"):
        statistics_of(structures)


@pytest.mark.parametrize("text", ["{", json.dumps({"energy_mean": 1.0})])
def test_a_damaged_file_is_named(tmp_path, text):
    path = tmp_path / "statistics.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=str(path)):
        DatasetStatistics.load(path)

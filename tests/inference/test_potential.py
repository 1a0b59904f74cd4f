"""`Potential`: predictions do not depend on batches, and mean what they say."""

from __future__ import annotations

import dataclasses
import warnings

import jax
import numpy as np
import pytest

import equiformer_jax as eqf
from equiformer_jax.data.normalizer import Normalizer
from equiformer_jax.data.structures import StructureList
from equiformer_jax.inference.meaning import Meaning
from equiformer_jax.inference.potential import Potential, UnsuitableStructureError
from tests.inference.small_potentials import (
    NORMALIZER,
    crystal,
    directly,
    molecules,
    same_labels,
    tiny_config,
    tiny_potential,
    variables_of,
)


@pytest.fixture(scope="module")
def potential():
    return tiny_potential()


# --- The numbers ---


def test_predictions_are_those_of_each_structure_by_itself(potential):
    structures = molecules(8)
    predictions = potential(structures)
    assert len(predictions) == 8
    for structure, prediction in zip(structures, predictions, strict=True):
        energy, forces = directly(potential, structure)
        assert abs(prediction.energy - energy) < 1e-10
        assert np.abs(prediction.forces - forces).max() < 1e-10
        assert np.array_equal(prediction.positions, structure.positions)
        assert prediction.stress is None
    assert np.ptp([prediction.energy for prediction in predictions]) > 0.1


def test_neither_order_nor_company_nor_batch_size_matters(potential):
    structures = [*molecules(9, seed=1), crystal()]
    together = potential(structures)
    order = np.random.default_rng(0).permutation(10)
    shuffled = potential([structures[index] for index in order])
    small = tiny_potential(max_edges_per_batch=150)(structures)
    for place, index in enumerate(order):
        assert same_labels(shuffled[place], together[index])
        assert same_labels(small[index], together[index])
    for index in (0, 9):
        assert same_labels(potential([structures[index]])[0], together[index])


def test_windows_are_joined_in_order(monkeypatch):
    monkeypatch.setattr("equiformer_jax.inference.potential._BATCHES_PER_WINDOW", 1)
    structures = molecules(12)
    windowed = tiny_potential(max_edges_per_batch=200)
    batches = list(windowed.stream(structures))
    for one, other in zip(batches, tiny_potential()(structures), strict=True):
        assert same_labels(one, other)


def test_long_predictions_say_how_far_they_are(monkeypatch):
    monkeypatch.setattr("equiformer_jax.inference.potential._BATCHES_PER_WINDOW", 1)
    monkeypatch.setattr("equiformer_jax.inference.potential._SECONDS_BETWEEN_LINES", 0.0)
    lines = []
    tiny_potential(max_edges_per_batch=150, say=lines.append)(molecules(6))
    progress = [line for line in lines if "a second" in line]
    assert len(progress) > 1
    assert progress[-1].startswith("6 of 6, ")


def test_a_stream_reads_no_further_than_it_has_to():
    read = []

    class Counted(StructureList):
        def structure(self, index):
            read.append(index)
            return super().structure(index)

    stream = tiny_potential(max_edges_per_batch=50).stream(Counted(molecules(200), "counted"))
    next(stream)
    assert 0 < len(read) < 150


def test_reference_energies_are_added_for_each_atom():
    references = {1: -13.6, 6: -1030.0, 7: -1480.0, 8: -2040.0}
    structures = molecules(3)
    plain = tiny_potential(meaning=Meaning(Normalizer(2.5)))(structures)
    shifted = tiny_potential(meaning=Meaning(Normalizer(2.5, references=references)))(structures)
    for structure, one, other in zip(structures, plain, shifted, strict=True):
        expected = sum(references[z] for z in structure.atomic_numbers.tolist())
        assert other.energy - one.energy == pytest.approx(expected, abs=1e-9)
        assert np.array_equal(other.forces, one.forces)


def test_stress_is_the_slope_of_the_energy_under_strain(potential):
    structure = crystal()
    (prediction,) = potential([structure])
    volume = abs(np.linalg.det(structure.cell))
    step = 1e-5
    for row, column in [(0, 0), (2, 2), (0, 1), (1, 2)]:
        strain = np.zeros((3, 3))
        strain[row, column] += step / 2
        strain[column, row] += step / 2

        def strained(sign, strain=strain):
            matrix = np.eye(3) + sign * strain
            return dataclasses.replace(
                structure, positions=structure.positions @ matrix, cell=structure.cell @ matrix
            )

        up, down = potential([strained(1), strained(-1)])
        slope = (up.energy - down.energy) / (2 * step * volume)
        assert prediction.stress[row, column] == pytest.approx(slope, abs=1e-7)
    assert np.abs(prediction.stress).max() > 1e-3


def test_a_cell_without_volume_has_no_stress(potential):
    chain = eqf.Structure(
        [[0, 0, 0], [1.2, 0.3, 0]],
        [6, 1],
        cell=[[3.0, 0, 0], [0, 0, 0], [0, 0, 0]],
        pbc=(True, False, False),
    )
    (prediction,) = potential([chain])
    assert prediction.stress is None
    assert np.isfinite(prediction.forces).all()


# --- What is kept of a structure ---


def test_labels_are_replaced_and_the_rest_is_kept(potential):
    given = crystal(
        energy=7.0,
        forces=np.ones((3, 3)),
        stress=np.ones((3, 3)),
        relaxed_positions=np.ones((3, 3)),
        relaxed_energy=1.0,
        fixed=[True, False, False],
        properties={"name": "diamond"},
    )
    (prediction,) = potential([given])
    assert same_labels(prediction, potential([crystal()])[0])
    assert prediction.relaxed_positions is None and prediction.relaxed_energy is None
    assert prediction.properties == {"name": "diamond"}
    for name in ("positions", "atomic_numbers", "cell", "pbc", "tags", "fixed"):
        assert np.array_equal(getattr(prediction, name), getattr(given, name))


def test_models_of_other_labels_have_no_forces_unless_asked_for():
    meaning = Meaning(NORMALIZER, label="alpha", unit="a0^3", has_forces=False)
    structures = [crystal()]
    for prediction in tiny_potential(meaning=meaning)(structures):
        assert prediction.forces is None and prediction.stress is None
    assert tiny_potential(meaning=meaning).describe() == "alpha in a0^3, under the name of energy"
    asked = tiny_potential(meaning=meaning, with_forces=True)(structures)
    for one, other in zip(asked, tiny_potential()(structures), strict=True):
        assert same_labels(one, other)


def test_relaxation_models_move_the_atoms_at_the_surface():
    config = tiny_config("oc20_is2re_is2rs")
    meaning = Meaning(NORMALIZER, label="relaxed_energy", has_forces=False, displacement_std=0.5)
    potential = tiny_potential(config, meaning)
    structure = crystal()
    (prediction,) = potential([structure])
    assert prediction.energy == prediction.relaxed_energy
    assert potential.describe() == "relaxed_energy in eV; relaxed positions in Å"
    graph = eqf.batch_graphs([eqf.build_graph(structure, config.max_radius)])
    outputs = jax.jit(eqf.Equiformer(config).apply)({"params": potential.params}, graph)
    displacement = 0.5 * np.asarray(outputs["displacement"])[:3]
    displacement[structure.tags == 0] = 0
    assert np.abs(displacement).max() > 1e-4
    moved = prediction.relaxed_positions - structure.positions
    assert np.abs(moved - displacement).max() < 1e-10

    with pytest.raises(UnsuitableStructureError, match="structure 0: .*tags"):
        potential([dataclasses.replace(structure, tags=None)])


# --- Compilations ---


def test_many_sizes_need_few_programs():
    structures = molecules(30, seed=3, largest=24)
    assert len({structure.num_atoms for structure in structures}) > 12
    lines = []
    together = tiny_potential(max_edges_per_batch=1000, say=lines.append)
    assert together.compilations == 0
    together(structures)
    assert together.compilations == 1  # though there are several batches
    assert together.compile_seconds > 0
    assert any("compiled prediction" in line for line in lines)


def test_the_same_shape_is_not_compiled_again(potential):
    structures = molecules(3)
    potential(structures)
    before = potential.compilations
    generator = np.random.default_rng(0)
    for _ in range(3):
        noise = [1e-3 * generator.normal(size=s.positions.shape) for s in structures]
        potential(
            [
                dataclasses.replace(s, positions=s.positions + move)
                for s, move in zip(structures, noise, strict=True)
            ]
        )
    assert potential.compilations == before


# --- What cannot be predicted ---


def test_a_free_atom_has_an_energy_and_no_force(potential):
    atom = eqf.Structure([[0.0, 0, 0]], [6])
    alone = potential([atom])[0]
    together = potential([*molecules(2), atom])[2]
    assert np.array_equal(alone.forces, np.zeros((1, 3)))
    assert same_labels(alone, together)
    # Far apart, energies add up; the energy of no atom at all is the mean.
    far = eqf.Structure([[0.0, 0, 0], [1.2, 0, 0], [50, 0, 0]], [6, 8, 6])
    pair = eqf.Structure([[0.0, 0, 0], [1.2, 0, 0]], [6, 8])
    whole, part = potential([far, pair])
    assert whole.energy == pytest.approx(part.energy + alone.energy - NORMALIZER.mean, abs=1e-9)


def test_atoms_that_are_all_out_of_reach_are_refused(potential):
    apart = eqf.Structure([[0.0, 0, 0], [100, 0, 0]], [6, 6])
    with pytest.raises(
        UnsuitableStructureError, match=r"^structure 2: .*within the cutoff of 5.0 Å$"
    ):
        potential([*molecules(2), apart])


def test_an_unknown_element_is_named(potential):
    gold = eqf.Structure([[0.0, 0, 0], [2, 0, 0]], [6, 79])
    with pytest.raises(UnsuitableStructureError, match=r"^structure 1: atom 1 .* number 79"):
        potential([*molecules(1), gold])
    with pytest.raises(UnsuitableStructureError, match=r"^a\.xyz: structure 0: atom 1"):
        potential(StructureList([gold], "a.xyz"))


def test_an_element_without_reference_energy_is_named():
    normalizer = Normalizer(1.0, references={1: -13.6})
    potential = tiny_potential(meaning=Meaning(normalizer))
    with pytest.raises(UnsuitableStructureError, match=r"structure 0: no reference energy.*6"):
        potential([eqf.Structure([[0.0, 0, 0], [1, 0, 0]], [1, 6])])


def test_an_element_that_was_not_trained_on_is_told_once():
    potential = tiny_potential(meaning=Meaning(NORMALIZER, elements=(1, 6)))
    water = eqf.Structure([[0.0, 0, 0], [1, 0, 0]], [1, 8])
    with pytest.warns(UserWarning, match=r"structure 1: .*not trained on .*\[8\].*\[1, 6\]"):
        potential([eqf.Structure([[0.0, 0, 0], [1, 0, 0]], [1, 6]), water])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        potential([water])


def test_a_prediction_that_is_not_finite_is_named():
    config = tiny_config()
    params = jax.tree.map(lambda leaf: np.full_like(leaf, np.nan), variables_of(config)["params"])
    with pytest.raises(UnsuitableStructureError, match="structure 0: predicted .* not finite"):
        Potential(config, params, Meaning(NORMALIZER))(molecules(1))


def test_misuse_is_told(potential):
    with pytest.raises(TypeError, match="sequence of structures"):
        potential(molecules(1)[0])
    with pytest.raises(ValueError, match="max_edges_per_batch"):
        tiny_potential(max_edges_per_batch=0)
    assert potential([]) == []


def test_float32_as_a_user_has_it(float32_mode):
    structures = molecules(4)
    potential = tiny_potential()
    assert jax.tree.leaves(potential.params)[0].dtype == np.float32
    predictions = potential(structures)
    with jax.enable_x64(True):
        exact = tiny_potential()(structures)
    for one, other in zip(predictions, exact, strict=True):
        assert same_labels(one, other, tolerance=2e-4)
        assert one.forces.dtype == np.float64

"""`ForceEvaluator`: the numbers of the potential, call after call, in one compiled program."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import equiformer_jax as eqf
from equiformer_jax.inference.dynamics.evaluator import ForceEvaluator
from equiformer_jax.inference.dynamics.folded_network import TABLE_TOLERANCE
from equiformer_jax.inference.meaning import Meaning
from equiformer_jax.inference.potential import UnsuitableStructureError
from tests.inference.small_potentials import NORMALIZER, crystal, tiny_config, tiny_potential


def cluster(seed=0, atoms=7):
    generator = np.random.default_rng(seed)
    steps = generator.normal(size=(atoms, 3))
    steps *= 1.3 / np.linalg.norm(steps, axis=1, keepdims=True)
    return eqf.Structure(np.cumsum(steps, axis=0), generator.choice([1, 6, 7, 8], atoms))


def shaken(structure, seed, size):
    moves = np.random.default_rng(seed).normal(size=structure.positions.shape)
    return dataclasses.replace(structure, positions=structure.positions + size * moves)


def assert_same(evaluator, potential, structure, tolerance=1e-9):
    (expected,) = potential([structure])
    energy, forces, stress = evaluator.with_stress(structure.positions, structure.cell)
    scale = max(1.0, np.abs(expected.forces).max())
    assert abs(energy - expected.energy) < tolerance * scale
    assert np.abs(forces - expected.forces).max() < tolerance * scale
    assert (stress is None) == (expected.stress is None)
    if stress is not None:
        assert np.abs(stress - expected.stress).max() < tolerance * scale


@pytest.fixture(scope="module")
def folded():
    config = tiny_config("md17_l2", max_radius=3.0, smooth_cutoff=True, rescale_degree=True)
    return tiny_potential(config)


@pytest.fixture(scope="module")
def molecule(folded):
    return ForceEvaluator(folded, cluster(), skin=0.3, tabulate=False)


# --- The numbers ---


def test_energies_and_forces_are_those_of_the_potential_wherever_the_atoms_go(folded, molecule):
    updates = []
    for seed, size in enumerate((0.0, 0.01, 0.02, 0.5, 1.0)):
        assert_same(molecule, folded, shaken(cluster(), seed, size))
        updates.append(int(molecule.neighbors.updates))
    assert updates[:3] == [1, 1, 1]  # small moves keep the list
    assert updates[4] == updates[2] + 2
    assert molecule.compilations == 1


def test_a_table_is_as_good_as_it_says(folded):
    evaluator = ForceEvaluator(folded, cluster(), skin=0.3)
    assert 0 < evaluator.table_error <= TABLE_TOLERANCE
    moved = shaken(cluster(), 1, 0.1)
    assert_same(evaluator, folded, moved, tolerance=1e-4)
    energy, forces = evaluator(moved.positions)
    (exact,) = folded([moved])
    errors = evaluator.table_errors(moved.positions)
    largest = np.abs(exact.forces).max()
    assert errors.energy == pytest.approx(abs(energy - exact.energy), rel=1e-3)
    assert errors.forces == pytest.approx(np.abs(forces - exact.forces).max() / largest, rel=1e-3)


def test_models_that_cannot_be_folded_run_as_they_are():
    potential = tiny_potential(tiny_config("md17_l2_linear", max_radius=3.0))
    assert_same(ForceEvaluator(potential, cluster()), potential, cluster())


@pytest.mark.parametrize("pbc", [True, pytest.param((True, False, True), marks=pytest.mark.slow)])
def test_periodic_cells_smaller_than_the_cutoff(folded, pbc):
    structure = crystal(pbc=pbc)
    evaluator = ForceEvaluator(folded, structure, skin=0.4, tabulate=False)
    assert folded.cutoff > structure.cell[0, 0] - 0.4
    assert_same(evaluator, folded, structure)
    # Atoms far outside the cell, and a cell that is another one.
    moved = structure.positions + np.array([[2, 0, -1], [0, 0, 3], [1, 0, 0]]) @ structure.cell
    assert_same(evaluator, folded, dataclasses.replace(structure, positions=moved))
    assert_same(evaluator, folded, dataclasses.replace(structure, cell=1.05 * structure.cell))
    assert evaluator.compilations == 1
    assert int(evaluator.neighbors.updates) == 3


def test_a_cell_that_shrinks_gets_more_images(folded):
    evaluator = ForceEvaluator(folded, crystal(), tabulate=False)
    before = evaluator.shape.images
    evaluator._look_far_enough(dataclasses.replace(crystal(), cell=0.3 * crystal().cell))
    assert np.all(np.array(evaluator.shape.images) > before)


# --- Room ---


def test_neighbors_that_outgrow_their_arrays_are_given_room_once(folded):
    lines = []
    line = np.arange(12.0)[:, None] * [[2.5, 0, 0]]
    sparse = eqf.Structure(line, [1, 6, 8] * 4)
    dense = dataclasses.replace(sparse, positions=0.4 * line)
    evaluator = ForceEvaluator(folded, sparse, tabulate=False, say=lines.append)
    assert_same(evaluator, folded, sparse)
    assert evaluator.compilations == 1
    assert_same(evaluator, folded, dense)
    assert evaluator.compilations == 2
    assert any("made room for" in each for each in lines)
    assert_same(evaluator, folded, sparse)
    assert evaluator.compilations == 2


def test_inside_a_program_an_overflow_is_not_a_number(folded):
    line = np.arange(12.0)[:, None] * [[2.5, 0, 0]]
    evaluator = ForceEvaluator(folded, eqf.Structure(line, [1, 6, 8] * 4), tabulate=False)
    found, neighbors = jax.jit(evaluator.evaluate)(evaluator.neighbors, jnp.asarray(0.4 * line))
    assert np.isnan(found.energy) and np.isnan(found.forces).all()
    before = evaluator.shape
    evaluator.grow(neighbors)
    assert evaluator.shape.num_candidates >= neighbors.most_candidates > before.num_candidates
    assert evaluator.shape.num_pairs > before.num_pairs


# --- Dynamics ---


def test_energy_is_conserved_along_a_trajectory_on_the_device(folded):
    structure, step, mass = cluster(), 0.1, 12.0
    evaluator = ForceEvaluator(folded, structure, skin=0.3)
    traces = []

    def verlet(carry, _):
        neighbors, positions, velocities, forces = carry
        velocities = velocities + 0.5 * step * forces / mass
        positions = positions + step * velocities
        found, neighbors = evaluator.evaluate(neighbors, positions)
        velocities = velocities + 0.5 * step * found.forces / mass
        kinetic = 0.5 * mass * jnp.sum(velocities**2)
        carry = (neighbors, positions, velocities, found.forces)
        return carry, (found.energy, kinetic)

    @jax.jit
    def run(neighbors, positions):
        traces.append(1)
        found, neighbors = evaluator.evaluate(neighbors, positions)
        start = (neighbors, positions, jnp.zeros_like(positions), found.forces)
        return jax.lax.scan(verlet, start, length=100)

    (neighbors, positions, _, _), (potential, kinetic) = run(
        evaluator.neighbors, jnp.asarray(structure.positions)
    )
    total = np.asarray(potential + kinetic)
    assert np.max(kinetic) > 1e-2  # something happens
    assert np.ptp(total) < 0.02 * np.max(kinetic)
    assert int(neighbors.updates) > 1
    run(neighbors, positions)
    assert len(traces) == 1


@pytest.mark.slow
def test_float32_as_a_user_has_it(float32_mode):
    potential = tiny_potential(tiny_config("md17_l2", max_radius=3.0))
    evaluator = ForceEvaluator(potential, cluster(), tabulate=False)
    assert evaluator(cluster().positions)[1].dtype == np.float64
    assert_same(evaluator, potential, shaken(cluster(), 0, 0.05), tolerance=1e-4)


# --- What cannot be evaluated ---


def test_what_cannot_be_evaluated_is_named(folded):
    far = eqf.Structure([[0.0, 0, 0], [100, 0, 0]], [6, 6])
    with pytest.raises(UnsuitableStructureError, match="within the cutoff"):
        ForceEvaluator(folded, far)
    with pytest.raises(UnsuitableStructureError, match="atomic number 79"):
        ForceEvaluator(folded, eqf.Structure([[0.0, 0, 0], [2, 0, 0]], [6, 79]))
    with pytest.raises(ValueError, match="skin"):
        ForceEvaluator(folded, cluster(), skin=-1.0)
    no_forces = tiny_potential(meaning=Meaning(NORMALIZER, label="alpha", has_forces=False))
    with pytest.raises(UnsuitableStructureError, match="no force"):
        ForceEvaluator(no_forces, cluster())
    nearest = tiny_potential(tiny_config("md17_l2", max_neighbors=3))
    with pytest.raises(ValueError, match="max_neighbors=3"):
        ForceEvaluator(nearest, cluster())


def test_bad_positions_are_told(molecule):
    with pytest.raises(ValueError, match="positions"):
        molecule(np.zeros((3, 3)))
    with pytest.raises(ValueError, match="positions"):
        molecule(np.full((7, 3), np.nan))

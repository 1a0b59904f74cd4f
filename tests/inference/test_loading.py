"""`eqf.load`: which weights, which standardization, and what is told where it cannot."""

from __future__ import annotations

import json
import os
import shutil

import jax
import numpy as np
import pytest

import equiformer_jax as eqf
from equiformer_jax.training.configuration import model_from_settings
from equiformer_jax.training.errors import (
    CheckpointDamagedError,
    CheckpointFormatError,
    MissingAverageError,
    WorkdirError,
)
from experiments.configs import oc20_is2re, parts, qm9
from tests.inference.small_potentials import TINY, TINY_RELAXATION, molecules
from tests.inference.small_runs import (
    STATISTICS,
    energy_force_settings,
    params_after,
    write_run,
)

CONFIG = energy_force_settings(optimizer__ema_decay=0.9)
MODEL = model_from_settings(CONFIG.model)
SMALL = {"num_heads": 2, "fc_neurons": (8, 8), "number_of_basis": 8}


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    """Three checkpoints, the best of which is that of step 10."""
    path = tmp_path_factory.mktemp("run")
    write_run(path, CONFIG, MODEL, {5: 3.0, 10: 1.0, 15: 2.0}, average=True)
    return path


def has_params(potential, expected):
    equal = jax.tree.map(lambda a, b: np.array_equal(a, b), potential.params, expected)
    return all(jax.tree.leaves(equal))


@pytest.mark.parametrize(("checkpoint", "step"), [("best", 10), ("latest", 15), (5, 5)])
def test_checkpoints_by_name_and_by_step(workdir, checkpoint, step):
    assert has_params(eqf.load(workdir, checkpoint), params_after(MODEL, step))


def test_the_best_checkpoint_is_the_default(workdir):
    lines = []
    potential = eqf.load(str(workdir), say=lines.append)
    assert has_params(potential, params_after(MODEL, 10))
    assert lines == [f"weights after 10 steps from {workdir}/checkpoints/10"]


def test_a_checkpoint_by_its_path(workdir):
    potential = eqf.load(workdir / "checkpoints" / "5")
    assert has_params(potential, params_after(MODEL, 5))
    assert has_params(eqf.load(workdir / "checkpoints" / "5", 5), params_after(MODEL, 5))
    with pytest.raises(ValueError, match="'latest', but the path is that of checkpoint 5"):
        eqf.load(workdir / "checkpoints" / "5", "latest")


def test_the_moving_average_has_to_be_asked_for(workdir):
    doubled = jax.tree.map(lambda leaf: 2 * leaf, params_after(MODEL, 10))
    assert has_params(eqf.load(workdir, average=True), doubled)


def test_numbers_are_in_ev(workdir):
    """The standardization is that of the run."""
    structures = molecules(2)
    predictions = eqf.load(workdir)(structures)
    for structure, prediction in zip(structures, predictions, strict=True):
        graph = eqf.batch_graphs(
            [eqf.build_graph(structure, MODEL.max_radius)], n_node=20, n_edge=160, n_graph=2
        )
        variables = {"params": params_after(MODEL, 10)}
        energy, forces = eqf.energy_and_forces(eqf.Equiformer(MODEL), variables, graph)
        expected = STATISTICS.energy_mean + STATISTICS.energy_std * float(energy[0])
        assert prediction.energy == pytest.approx(expected, abs=1e-10)
        forces = STATISTICS.energy_std * forces[: structure.num_atoms]
        np.testing.assert_allclose(prediction.forces, forces, atol=1e-10)


@pytest.mark.parametrize(
    ("given", "by_element", "scale", "mean", "references"),
    [
        ((), False, 2.0, -400.0, None),
        ((1.0, 3.0), False, 3.0, 1.0, None),
        ((), True, 0.5, 0.0, STATISTICS.reference_energies),
    ],
)
def test_every_standardization(tmp_path, given, by_element, scale, mean, references):
    config = energy_force_settings()
    config.normalizer = parts.normalizer(*given)
    config.normalizer.reference_energies = by_element
    write_run(tmp_path, config, MODEL, {1: None})
    potential = eqf.load(tmp_path)  # not validated yet: the latest is the best there is
    meaning = potential.meaning
    normalizer = meaning.normalizer
    assert (normalizer.scale, normalizer.mean, normalizer.references) == (scale, mean, references)
    assert (meaning.label, meaning.unit, meaning.has_forces) == ("energy", "eV", True)
    assert set(meaning.elements) == {1, 6, 7, 8}
    assert potential.with_forces and potential.cutoff == MODEL.max_radius


def test_targets_of_qm9_have_their_name_and_unit(tmp_path):
    config = qm9.get_config("alpha")
    config.model.update(TINY | SMALL)
    write_run(tmp_path, config, model_from_settings(config.model), {1: 1.0})
    potential = eqf.load(tmp_path)
    assert (potential.meaning.label, potential.meaning.unit) == ("alpha", "a0^3")
    assert not potential.with_forces
    assert eqf.load(tmp_path, with_forces=True).with_forces
    assert potential(molecules(1))[0].forces is None


def test_relaxations_have_displacements(tmp_path):
    config = oc20_is2re.get_config("aux")
    config.model.update(TINY_RELAXATION | SMALL)
    write_run(tmp_path, config, model_from_settings(config.model), {1: 1.0})
    meaning = eqf.load(tmp_path).meaning
    assert (meaning.label, meaning.unit, meaning.has_forces) == ("relaxed_energy", "eV", False)
    assert meaning.displacement_std == config.objective.displacement_std
    assert meaning.normalizer.mean == config.normalizer.mean


def test_options_reach_the_potential(workdir):
    assert eqf.load(workdir, max_edges_per_batch=7).max_edges_per_batch == 7


def test_float32_weights_are_loaded_in_float32(workdir, float32_mode):
    potential = eqf.load(workdir)
    assert {leaf.dtype for leaf in jax.tree.leaves(potential.params)} == {np.dtype(np.float32)}
    assert potential(molecules(1))[0].forces is not None


def test_the_workdir_is_only_read(workdir):
    before = {path: path.stat().st_mtime_ns for path in sorted(workdir.rglob("*"))}
    eqf.load(workdir, "latest")
    assert before == {path: path.stat().st_mtime_ns for path in sorted(workdir.rglob("*"))}


# --- What cannot be loaded ---


def test_what_is_no_workdir_is_refused_and_left_as_it_is(tmp_path):
    with pytest.raises(WorkdirError, match="no such directory"):
        eqf.load(tmp_path / "nowhere")
    with pytest.raises(WorkdirError, match="not the workdir of a run"):
        eqf.load(tmp_path)
    assert not os.listdir(tmp_path)
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(WorkdirError, match="holds no checkpoint yet"):
        eqf.load(tmp_path)


def test_a_checkpoint_that_is_not_there(workdir):
    with pytest.raises(WorkdirError, match=r"no checkpoint 7, only \[5, 10, 15\]"):
        eqf.load(workdir, 7)
    for wrong in ("newest", 1.5, True):
        with pytest.raises(ValueError, match="expected 'best', 'latest' or a number"):
            eqf.load(workdir, wrong)


def test_an_average_that_was_not_kept(tmp_path):
    write_run(tmp_path, energy_force_settings(), MODEL, {1: 1.0})
    with pytest.raises(MissingAverageError):
        eqf.load(tmp_path, average=True)


def test_another_format_is_named(workdir, tmp_path):
    copy = shutil.copytree(workdir, tmp_path / "run")
    shutil.rmtree(copy / "checkpoint_digests")  # so that only the format is wrong
    (record,) = (path for path in (copy / "checkpoints/10/record").rglob("*") if _is_record(path))
    values = json.loads(record.read_text())
    record.write_text(json.dumps({**values, "format_version": 99}))
    with pytest.raises(CheckpointFormatError, match=r"checkpoints/10: checkpoint format 99"):
        eqf.load(copy, 10)


def _is_record(path):
    return path.is_file() and "format_version" in path.read_text(errors="ignore")


def test_damage_is_named(workdir, tmp_path):
    copy = shutil.copytree(workdir, tmp_path / "run")
    largest = max(
        (path for path in (copy / "checkpoints/10/params").rglob("*") if path.is_file()),
        key=lambda path: path.stat().st_size,
    )
    content = bytearray(largest.read_bytes())
    content[len(content) // 2] ^= 0xFF
    largest.write_bytes(content)
    with pytest.raises(CheckpointDamagedError, match=r"checkpoints/10 is damaged.*params"):
        eqf.load(copy)
    assert eqf.load(copy, "latest")

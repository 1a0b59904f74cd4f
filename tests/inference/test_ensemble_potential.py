"""An ensemble, from its configuration over its checkpoint to predictions with their spread."""

from __future__ import annotations

import ase.io
import numpy as np
import pytest

import equiformer_jax as eqf
from equiformer_jax.data import catalog
from equiformer_jax.inference.potential import Potential
from equiformer_jax.inference.predictions import write_predictions
from equiformer_jax.training import trainer
from equiformer_jax.training.ensemble import member
from equiformer_jax.training.metrics import read_metrics
from tests.training.tiny_run import tiny_config, tiny_splits

MEMBERS = 2


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    workdir, splits = tmp_path_factory.mktemp("ensemble"), tiny_splits()
    config = tiny_config(
        training__ensemble=MEMBERS, training__num_epochs=2, optimizer__ema_decay=0.9
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(catalog.DATASETS, "tiny", lambda: splits)
        evaluation = trainer.train(config, workdir)
    return workdir, splits["test"], evaluation


@pytest.fixture(scope="module")
def potential(trained):
    return eqf.load(trained[0], "latest")


def test_members_have_learned_different_things_and_predict_together(trained, potential):
    _, structures, evaluation = trained
    assert potential.members == MEMBERS
    members = [
        Potential(potential.config, member(potential.params, index), potential.meaning)
        for index in range(MEMBERS)
    ]
    alone = [one(structures) for one in members]
    together = potential(structures)
    for index, found in enumerate(together):
        energies = [predicted[index].energy for predicted in alone]
        forces = np.stack([predicted[index].forces for predicted in alone])
        np.testing.assert_allclose(found.energy, np.mean(energies), rtol=1e-6)
        np.testing.assert_allclose(found.forces, forces.mean(0), atol=1e-5)
        spread = found.properties["spread_energy"]
        np.testing.assert_allclose(spread, np.std(energies), rtol=1e-2, atol=1e-4)
        np.testing.assert_allclose(found.properties["spread_forces"], forces.std(0), atol=1e-4)
        assert spread > 0
    energies = [found.energy for found in together]
    np.testing.assert_allclose(evaluation.predicted_energies, energies, rtol=1e-6)


def test_its_records_and_its_average_are_those_of_all_members(trained):
    workdir, structures, _ = trained
    records = read_metrics(workdir)
    assert len(records) == 2
    assert all(np.isfinite(record["loss"]) for record in records)
    averaged = eqf.load(workdir, "latest", average=True)(structures)
    assert np.isfinite([found.energy for found in averaged]).all()


def test_the_spread_is_written_beside_the_predictions(trained, potential, tmp_path):
    structures = trained[1]
    predicted = potential(structures)
    path = write_predictions(tmp_path / "out.extxyz", structures, predicted)
    frames = ase.io.read(path, ":")
    for frame, found in zip(frames, predicted, strict=True):
        np.testing.assert_allclose(frame.info["spread_energy"], found.properties["spread_energy"])
        np.testing.assert_allclose(
            frame.arrays["spread_forces"], found.properties["spread_forces"], atol=1e-7
        )
    with np.load(write_predictions(tmp_path / "out.npz", structures, predicted)) as arrays:
        assert arrays["spread_energy"].shape == (len(structures),)
        forces = np.concatenate([found.properties["spread_forces"] for found in predicted])
        np.testing.assert_array_equal(arrays["spread_forces"], forces)


def test_a_calculator_takes_an_ensemble_and_an_evaluator_refuses_it(trained, potential):
    structure = trained[1][0]
    atoms = eqf.structure_to_ase(structure)
    atoms.calc = eqf.EquiformerCalculator(potential)
    (predicted,) = potential([structure])
    np.testing.assert_allclose(atoms.get_potential_energy(), predicted.energy, rtol=1e-7)
    np.testing.assert_allclose(atoms.get_forces(), predicted.forces, atol=1e-6)
    with pytest.raises(ValueError, match="an ensemble of 2; call it itself"):
        eqf.ForceEvaluator(potential, structure)

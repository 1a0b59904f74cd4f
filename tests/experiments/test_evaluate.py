"""`experiments.evaluate`: what it evaluates, and that it writes all that a run has learned."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import ase.io
import numpy as np
import pytest

import equiformer_jax as eqf
from equiformer_jax.data.readers.ase_files import read_ase
from equiformer_jax.inference.predictions import write_evaluation
from equiformer_jax.training import trainer
from equiformer_jax.training.configuration import model_from_settings
from equiformer_jax.training.errors import WorkdirError
from equiformer_jax.training.run_facts import RunFacts
from experiments.configs import oc20_is2re, parts
from tests.data.readers.lmdb_samples import oc20_fields, version_1, write_lmdb
from tests.inference.small_potentials import TINY_RELAXATION
from tests.inference.small_runs import write_run
from tests.paths import REPOSITORY
from tests.training.tiny_run import tiny_config

SIZES = {"train": 8, "validation": 2, "test": 2, "other": 5}


def crystals(count, seed):
    """Of two to four atoms, with made-up labels."""
    generator = np.random.default_rng(seed)
    for _ in range(count):
        atoms = int(generator.integers(2, 5))
        cell = np.diag([3.1, 4.2, 4.9]) + generator.uniform(-0.3, 0.3, (3, 3))
        stress = 0.1 * generator.normal(size=(3, 3))
        yield eqf.Structure(
            generator.random((atoms, 3)) @ cell,
            generator.choice([1, 6, 8], atoms),
            cell=cell,
            pbc=(True,) * 3,
            energy=-400.0 + generator.normal(),
            forces=generator.normal(size=(atoms, 3)),
            stress=stress + stress.T,
        )


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The workdir of an ensemble that learns stress, and a file that it does not know."""
    folder = tmp_path_factory.mktemp("ensemble")
    for seed, (name, count) in enumerate(SIZES.items()):
        frames = [eqf.structure_to_ase(structure) for structure in crystals(count, seed)]
        ase.io.write(folder / f"{name}.extxyz", frames)
    files = {name: f"{folder / name}.extxyz" for name in ("train", "validation", "test")}
    config = tiny_config(
        model__max_radius=3.5,
        objective__stress_weight=1.0,
        optimizer__ema_decay=0.9,
        training__ensemble=2,
    )
    config.data = parts.data("files", **files)
    model = model_from_settings(config.model)
    write_run(folder / "run", config, model, {2: 1.0, 4: 2.0}, average=True, members=2)
    RunFacts(SIZES, num_parameters=1, devices="none").save(folder / "run")
    return folder / "run", folder / "other.extxyz"


@pytest.mark.slow
def test_a_checkpoint_an_average_and_other_data_can_be_chosen_and_all_is_written(run, tmp_path):
    workdir, other = run
    finished = subprocess.run(
        [
            *(sys.executable, "-m", "experiments.evaluate", f"--workdir={workdir}"),
            *("--checkpoint=2", "--average", f"--option=test={other}", "--name=other"),
            f"--output={tmp_path}/out.npz",
        ],
        cwd=REPOSITORY,
        env={**os.environ, "JAX_ENABLE_X64": "1"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert finished.returncode == 0, finished.stderr
    assert "their moving average after 2 steps" in finished.stdout
    assert f"other split, {SIZES['other']} structures:" in finished.stdout
    assert f"{tmp_path}/out.npz" in finished.stdout
    summary = json.loads((workdir / "other_metrics.json").read_text())

    expected = eqf.load(workdir, 2, average=True)(read_ase(other))
    with np.load(tmp_path / "out.npz") as file:
        found = dict(file)
    assert {name for name in found if name.startswith("reference_")} == {
        "reference_energy",
        "reference_forces",
        "reference_stress",
    }
    for name in ("energy", "stress"):
        values = [getattr(each, name) for each in expected]
        np.testing.assert_allclose(found[name], values, rtol=1e-8, atol=1e-10)
    spreads = [each.properties["spread_energy"] for each in expected]
    np.testing.assert_allclose(found["spread_energy"], spreads, rtol=1e-8)
    for name, values in (
        ("forces", [each.forces for each in expected]),
        ("spread_forces", [each.properties["spread_forces"] for each in expected]),
    ):
        np.testing.assert_allclose(found[name], np.concatenate(values), rtol=1e-8, atol=1e-10)
    for name, metric in (
        ("energy", "energy_mae_mev"),
        ("forces", "force_mae_mev_per_angstrom"),
        ("stress", "stress_mae_mev_per_cubic_angstrom"),
    ):
        error = 1000 * np.abs(found[name] - found[f"reference_{name}"]).mean()
        assert summary[metric] == pytest.approx(error, rel=1e-6)


def test_a_checkpoint_that_is_not_there_is_refused(run):
    with pytest.raises(WorkdirError, match=r"has no checkpoint 3, only \[2, 4\]"):
        trainer.evaluate(run[0], checkpoint="3")


def test_a_public_split_by_its_name_gives_relaxed_energies_and_positions(tmp_path):
    config = oc20_is2re.get_config("aux")
    config.model.update(TINY_RELAXATION | {"num_heads": 2, "fc_neurons": (8, 8)})
    config.data.options.directory = str(tmp_path / "data")
    elements = {"atomic_numbers": np.array([1, 6, 7, 8], np.float32)}
    for seed, split in enumerate(("train", "val_id", "val_ood_ads")):
        folder = tmp_path / "data" / "is2re" / "all" / split
        folder.mkdir(parents=True)
        records = [version_1(oc20_fields(seed=10 * seed + i) | elements) for i in range(2)]
        write_lmdb(folder / "data.lmdb", records)
    workdir = tmp_path / "run"
    write_run(workdir, config, model_from_settings(config.model), {1: None})

    evaluation = trainer.evaluate(workdir, options={"test": "val_ood_ads"}, name="val_ood_ads")
    path = write_evaluation(tmp_path / "out.npz", evaluation, config.objective)
    structures = list(evaluation.structures)
    assert [each.properties["sid"] for each in structures] == [1700400, 1700401]
    expected = eqf.load(workdir)(structures)
    with np.load(path) as file:
        for name in ("energy", "relaxed_energy"):
            np.testing.assert_allclose(file[name], [each.relaxed_energy for each in expected])
        moved = np.concatenate([each.relaxed_positions for each in expected])
        np.testing.assert_allclose(file["relaxed_positions"], moved, rtol=1e-9)
        assert np.abs(moved - file["positions"]).max() > 1e-4
        reference = np.concatenate([each.relaxed_positions for each in structures])
        np.testing.assert_array_equal(file["reference_relaxed_positions"], reference)
        tags = np.concatenate([each.tags for each in structures])
        error = np.abs(file["relaxed_positions"] - reference)[tags > 0].mean()
    assert evaluation.metrics["displacement_mae_angstrom"] == pytest.approx(error)

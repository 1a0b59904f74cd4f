"""`experiments.predict` as a person starts it."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys

import ase.io
import numpy as np
import pytest

import equiformer_jax as eqf
from equiformer_jax.training.configuration import model_from_settings
from tests.inference.small_potentials import molecules
from tests.inference.small_runs import energy_force_settings, write_run
from tests.paths import REPOSITORY

CONFIG = energy_force_settings(optimizer__ema_decay=0.9)


def predict(*arguments):
    """Runs the program as a user has it: no x64."""
    environment = {key: value for key, value in os.environ.items() if key != "JAX_ENABLE_X64"}
    return subprocess.run(
        [sys.executable, "-m", "experiments.predict", *arguments],
        cwd=REPOSITORY,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )


def output_of(*arguments):
    finished = predict(*arguments)
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


@pytest.fixture
def run(tmp_path):
    """A workdir, and a file of five structures with energies."""
    workdir, path = tmp_path / "run", tmp_path / "in.extxyz"
    write_run(workdir, CONFIG, model_from_settings(CONFIG.model), {5: 1.0, 10: 2.0}, average=True)
    structures = [
        dataclasses.replace(structure, energy=-400.0 - index)
        for index, structure in enumerate(molecules(5))
    ]
    ase.io.write(path, [eqf.structure_to_ase(structure) for structure in structures])
    return workdir, path, structures


@pytest.mark.slow
def test_predictions_are_those_of_the_loaded_potential(run, tmp_path):
    workdir, path, structures = run
    arguments = (f"--checkpoint={workdir}", f"--input={path}")
    printed = output_of(*arguments, f"--output={tmp_path}/out.extxyz")
    for expected in (
        "5 structures in",
        f"weights after 5 steps from {workdir}/checkpoints/5",
        "device: cpu",
        "predicting: energy in eV; forces in eV/Å",
        "compiled prediction in",
        "structures/s",
        f"{tmp_path}/out.extxyz",
    ):
        assert expected in printed
    frames = ase.io.read(tmp_path / "out.extxyz", ":")
    for frame, given, expected in zip(
        frames, structures, eqf.load(workdir)(structures), strict=True
    ):
        assert frame.get_potential_energy() == pytest.approx(expected.energy, abs=1e-2)
        np.testing.assert_allclose(frame.get_forces(), expected.forces, rtol=1e-2, atol=1e-2)
        assert frame.info["reference_energy"] == given.energy

    choice = ("--checkpoint_step=10", "--average", "--noreferences", f"--output={tmp_path}/out.npz")
    assert "moving average of the weights after 10 steps" in output_of(*arguments, *choice)
    with np.load(tmp_path / "out.npz") as file:
        expected = [each.energy for each in eqf.load(workdir, 10, average=True)(structures)]
        np.testing.assert_allclose(file["energy"], expected, rtol=1e-4)
        assert "reference_energy" not in file


@pytest.mark.slow
def test_what_is_wrong_is_told_in_one_line(run, tmp_path):
    workdir, path, _ = run
    (tmp_path / "broken.extxyz").write_text("2\nProperties=species:S:1:pos:R:3\nH 0 0 0\n")
    ase.io.write(tmp_path / "gold.extxyz", ase.Atoms("CAu", [[0, 0, 0], [0, 0, 2]]))
    right = {"checkpoint": workdir, "input": path, "output": tmp_path / "out.extxyz"}
    for wrong, message in (
        ({"output": tmp_path / "out.cif"}, "expected a name that ends in"),
        ({"checkpoint": tmp_path}, "is not the workdir of a run"),
        ({"input": tmp_path / "missing.xyz"}, "missing.xyz: no such file"),
        ({"input": tmp_path / "broken.extxyz"}, "broken.extxyz: "),
        ({"input": tmp_path / "gold.extxyz"}, "frame 0: atom 1 has atomic number 79"),
    ):
        finished = predict(*(f"--{name}={value}" for name, value in {**right, **wrong}.items()))
        assert finished.returncode != 0
        assert message in finished.stderr, finished.stderr
        assert "Traceback" not in finished.stderr
    assert sorted(os.listdir(tmp_path)) == ["broken.extxyz", "gold.extxyz", "in.extxyz", "run"]


def test_a_flag_that_is_missing_is_named():
    finished = predict("--input=in.xyz", "--output=out.xyz")
    assert finished.returncode != 0
    assert "checkpoint" in finished.stderr and "Traceback" not in finished.stderr

"""The programs as a person starts them."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from tests.paths import REPOSITORY

QUICKSTART = "--config=experiments/configs/quickstart.py"
TINY = [
    "--config.model.num_layers=1",
    "--config.model.num_heads=2",
    "--config.model.irreps_node_embedding=4x0e+2x1e",
    "--config.model.irreps_sh=1x0e+1x1e",
    "--config.model.irreps_head=2x0e+1x1e",
    "--config.model.irreps_mlp_mid=4x0e+2x1e",
    "--config.model.irreps_feature=4x0e",
    "--config.data.limits.train=16",
    "--config.data.limits.validation=4",
    "--config.data.limits.test=6",
    "--config.training.num_epochs=2",
]


def run(program, *arguments):
    """Runs a program as a user has it: no x64, two cores."""
    environment = {key: value for key, value in os.environ.items() if key != "JAX_ENABLE_X64"}
    environment["XLA_FLAGS"] = "--xla_force_host_platform_device_count=2"
    return subprocess.run(
        [sys.executable, "-m", f"experiments.{program}", *arguments],
        cwd=REPOSITORY,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )


def output_of(program, *arguments):
    finished = run(program, *arguments)
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


@pytest.mark.slow
def test_training_resuming_and_evaluating_from_the_command_line(tmp_path):
    workdir = f"--workdir={tmp_path}/run"
    first = output_of("train", QUICKSTART, workdir, *TINY)
    for expected in ("devices: 2 x cpu", "compiled training step in", "epoch 2/2", "structures/s"):
        assert expected in first
    assert "% of the error of predicting zero" in first
    files = ("report.md", "learning_curve.png", "parity.png", "metrics.jsonl", "test_metrics.json")
    for name in files:
        assert f"{tmp_path}/run/{name}" in first
        assert (tmp_path / "run" / name).stat().st_size > 0

    again = output_of("train", QUICKSTART, workdir, *TINY)
    assert "finished already" in again
    assert "compiled training step" not in again

    refused = run("train", QUICKSTART, workdir, *TINY, "--config.seed=7")
    assert refused.returncode != 0
    assert "seed: checkpoint 1, asked for 7" in refused.stderr
    assert "Traceback" not in refused.stderr

    evaluated = output_of("evaluate", workdir, "--split=test")
    assert again.splitlines()[-7:] == evaluated.splitlines()[-7:]
    summary = json.loads((tmp_path / "run" / "test_metrics.json").read_text())
    assert summary["num_structures"] == 6
    output_of("evaluate", workdir, "--split=train")
    assert (tmp_path / "run" / "parity_train.png").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([QUICKSTART, "--config.training.num_epoch=3"], "num_epochs"),
        ([QUICKSTART, "--config.training.num_epochs=many"], "num_epochs"),
        (["--config=experiments/configs/md17.py:water"], "molecule='water'; known are"),
    ],
)
def test_a_mistyped_flag_is_an_error_that_names_it(tmp_path, arguments, message):
    finished = run("train", f"--workdir={tmp_path}/run", *arguments)
    assert finished.returncode != 0
    assert message in finished.stderr
    assert "Traceback" not in finished.stderr
    assert not (tmp_path / "run").exists()


def test_evaluating_what_is_no_run_is_told_in_one_line(tmp_path):
    finished = run("evaluate", f"--workdir={tmp_path}")
    assert finished.returncode != 0
    assert "is not the workdir of a run" in finished.stderr
    assert "Traceback" not in finished.stderr

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from experiments.data_rates import CASES, run_case
from tests.paths import REPOSITORY

RATES = {
    "structures",
    "neighbor_lists",
    "graph_store",
    "later_epochs",
    "augmented_epochs",
    "first_epoch",
}


def test_every_stage_is_timed():
    result = run_case(CASES["qm9"], 256)
    # 64 of them have 17,348 edges in the published training: 271 each.
    assert result["mean_edges"] == pytest.approx(271, rel=0.2)
    assert result["rates"].keys() == RATES
    assert min(result["rates"].values()) > 0
    assert 0 < result["share_of_first_epoch"] < 1


def test_the_program_prints_a_table_and_writes_a_file(tmp_path):
    output = tmp_path / "result.json"
    command = [sys.executable, "-m", "experiments.benchmark_data", "--case=oc20_30_neighbors"]
    finished = subprocess.run(
        [*command, "--count=32", f"--output={output}"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "oc20_30_neighbors: 32 structures of 80 atoms" in finished.stdout
    assert "structures/s/core" in finished.stdout
    (case,) = json.loads(output.read_text())["cases"].values()
    assert case["mean_edges"] <= 80 * 30
    assert case["rates"].keys() == RATES

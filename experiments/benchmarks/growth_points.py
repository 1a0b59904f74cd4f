"""Measures one point of a series, in a process of its own."""

from __future__ import annotations

import json
import math
import os
import pathlib
import subprocess
import sys
import tempfile
from typing import Any

from equiformer_jax.training.cpu_cores import DEVICE_COUNT_FLAG
from experiments.benchmarks.growth import Point

TIME, MEMORY = "products", "temporary_mib"

Row = dict[str, Any]


def measure(point: Point, steps: int) -> Row:
    """Runs one point in a process of its own.

    Raises:
      RuntimeError: the process failed; with what it said.
    """
    environment = os.environ | {"XLA_FLAGS": f"{DEVICE_COUNT_FLAG}={point.devices}"}
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "result.json")
        command = [sys.executable, "-m", "experiments.benchmark", f"--case={point.case}"]
        command += [f"--steps={steps}", f"--output={path}"]
        finished = subprocess.run(command, env=environment, capture_output=True, text=True)
        if finished.returncode:
            raise RuntimeError(f"{point.case} failed:\n{finished.stderr}")
        result = json.loads(path.read_text("utf-8"))
    return read_row(point, result)


def read_row(point: Point, result: dict[str, Any]) -> Row:
    """What is kept of a result of `experiments.benchmark`."""
    numbers = result[point.case]
    return {
        "size": numbers["edges"] if point.size is None else point.size,
        "edges": numbers["edges"],
        TIME: numbers["processor_step_over_matrix_product"],
        "matrix_gflop": numbers["matrix_gflop"],
        MEMORY: point.devices * numbers["temporary_mib_per_device"],
        "process_mib": result["machine"]["peak_process_mib"],
        "sent_mb_per_device": numbers.get("sent_bytes_per_device", math.nan) / 1e6,
        "compile_seconds_cold": numbers["compile_seconds_cold"],
    }

"""Checks that need several devices: modules run in processes of their own, on virtual ones."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.paths import REPOSITORY


def output_on_devices(module: str, num_devices: int) -> str:
    """What a module prints that runs on so many virtual CPU devices, in float64, to its end."""
    flags = f" --xla_force_host_platform_device_count={num_devices}"
    finished = subprocess.run(
        [sys.executable, "-m", module],
        cwd=REPOSITORY,
        env={
            **os.environ,
            "XLA_FLAGS": os.environ.get("XLA_FLAGS", "") + flags,
            "JAX_ENABLE_X64": "1",
        },
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert finished.returncode == 0, finished.stderr
    return finished.stdout

from __future__ import annotations

import os
import subprocess
import sys

from tests.paths import REPOSITORY


def test_edges_divided_over_devices_give_what_all_edges_give():
    """On four devices: values, forces, stress, gradients of a loss on them, dropout included."""
    flags = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=4"
    finished = subprocess.run(
        [sys.executable, "-m", "tests.models.divided_edges"],
        cwd=REPOSITORY,
        env={**os.environ, "XLA_FLAGS": flags, "JAX_ENABLE_X64": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert finished.returncode == 0, finished.stderr
    assert "derivatives agree" in finished.stdout
    assert "edges agree" in finished.stdout

"""Runs the launch scripts, with stand-ins for the tools that they call."""

from __future__ import annotations

import os
import pathlib
import subprocess
import time

from tests.paths import REPOSITORY

LAUNCH = REPOSITORY / "experiments" / "launch"
SETTINGS = {
    "PROJECT": "some-project",
    "ZONE": "some-zone",
    "TPU_NAME": "my-tpu",
    "ACCELERATOR_TYPE": "v5litepod-8",
    "RUNTIME_VERSION": "v2-alpha-tpuv5-lite",
    "STORAGE": "nfs:10.0.0.2:/share",
    "RUN_NAME": "aspirin",
    "CONFIG": "experiments/configs/md17.py:aspirin",
    "WORKDIR": "runs/aspirin",
}

# Trains until a file says how to end, or until it is asked to end: then it "saves", as the program.
TRAINING = """\
case "$*" in *--dry_run*) exit 0 ;; esac
trap 'echo saved; exit 1' TERM
echo "training, devices ${JAX_LOCAL_DEVICE_IDS:-all}"
echo "programs ${JAX_COMPILATION_CACHE_DIR:-not kept}"
until [[ -s $HOME/end ]]; do sleep 0.05; done
exit "$(<"$HOME/end")"
"""


def environment(**settings: str) -> dict[str, str]:
    """The environment without settings of whoever runs the tests, with these."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return kept | settings


def launch(script: str, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """Runs a launch script with these environment variables."""
    return subprocess.run(
        ["bash", str(LAUNCH / script), *arguments],
        env=environment(**settings),
        capture_output=True,
        text=True,
        timeout=60,
    )


def install(folder: pathlib.Path, name: str, text: str) -> pathlib.Path:
    """Writes a stand-in, a bash script, into a folder for the PATH."""
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f"#!/usr/bin/env bash\nset -euo pipefail\n{text}")
    path.chmod(0o755)
    return path


def with_tools(folder: pathlib.Path) -> str:
    """A PATH on which the stand-ins of a folder come first."""
    return f"{folder}{os.pathsep}{os.environ['PATH']}"


def wait_until(condition) -> None:
    """Waits, ten seconds at most, until something is so."""
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)

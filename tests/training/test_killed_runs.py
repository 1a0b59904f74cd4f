"""A run that is killed at any moment ends with the weights of one that was not, bit for bit."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from equiformer_jax.training.checkpoint import Checkpoints
from equiformer_jax.training.metrics import read_metrics
from tests.paths import REPOSITORY

EPOCHS = 12
KILLS = 3


def start(workdir):
    """The training in a process of its own, with the settings of this one."""
    command = [sys.executable, "-m", "tests.training.tiny_run", str(workdir), str(EPOCHS)]
    log = (workdir / "log.txt").open("a")
    return subprocess.Popen(command, cwd=REPOSITORY, env=dict(os.environ), stdout=log, stderr=log)


def finish(workdir):
    process = start(workdir)
    assert process.wait(timeout=300) == 0, (workdir / "log.txt").read_text()[-4000:]


def final_state(workdir):
    with Checkpoints(workdir) as checkpoints:
        assert checkpoints.latest_step == 2 * EPOCHS
        restored = checkpoints._manager.restore(checkpoints.latest_step)

    def numbers(leaf):
        is_key = jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        return jax.random.key_data(leaf) if is_key else leaf

    return jax.tree.map(numbers, {name: restored[name] for name in ("params", "training")})


def kill_after(workdir, process, records, delay):
    """SIGKILL some moment after so many epochs are in the log, unless the run is faster."""
    deadline = time.monotonic() + 300
    while len(read_metrics(workdir)) < records and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    time.sleep(delay)
    if process.poll() is None:
        process.send_signal(signal.SIGKILL)
    process.wait()
    return process.returncode == -signal.SIGKILL


@pytest.mark.slow
def test_a_run_that_is_killed_again_and_again_ends_as_if_it_had_not_been(tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    whole.mkdir()
    killed.mkdir()
    finish(whole)
    moments = random.Random(0)
    kills = 0
    for _ in range(KILLS):
        # A checkpoint is written after each record: most of these moments lie in a save or a step.
        records = len(read_metrics(killed)) + moments.randint(1, 3)
        kills += kill_after(killed, start(killed), records, moments.uniform(0, 0.15))
    assert kills >= 2  # the machine may be so fast that a run ends before it is killed
    finish(killed)
    jax.tree.map(np.testing.assert_array_equal, final_state(killed), final_state(whole))
    losses = [[record["loss"] for record in read_metrics(path)] for path in (whole, killed)]
    assert losses[0] == losses[1]
    assert not (killed / "damaged_checkpoints").exists()

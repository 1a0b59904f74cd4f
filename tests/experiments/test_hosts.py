"""Programs as several processes: the same numbers, one wish to stop, one end."""

from __future__ import annotations

import json
import os
import re
import signal
import time

import jax
import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver

from equiformer_jax.training import trainer
from equiformer_jax.training.metrics import read_metrics
from experiments import hosts
from tests.experiments.host_runs import (
    STEPS,
    configuration,
    start_training,
    wait_for_new_record,
    write_splits,
)
from tests.training.saved_state import saved_state


@pytest.fixture(scope="module")
def argument(tmp_path_factory):
    return write_splits(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def reference(argument, tmp_path_factory):
    """The run of one process with one device, never interrupted."""
    workdir = tmp_path_factory.mktemp("reference") / "run"
    trainer.train(configuration(argument), workdir)
    return workdir


def losses_of(workdir):
    """Loss and error of each step that the log tells of."""
    records = [record for record in read_metrics(workdir) if record["kind"] == "steps"]
    return {r["step"]: (r["loss"], r["train_force_mae_mev_per_angstrom"]) for r in records}


@pytest.mark.slow
def test_a_run_moved_between_devices_and_hosts_stopped_and_killed_ends_as_if_it_had_not_been(
    argument, reference, tmp_path
):
    workdir = tmp_path / "run"

    # One process with two devices, asked to end.
    alone = start_training(workdir, argument, 1, 2)
    wait_for_new_record(workdir, alone)
    alone.processes[0].send_signal(signal.SIGTERM)
    assert alone.wait() == [os.EX_TEMPFAIL]
    assert "asked to end" in alone.texts()[0]

    # Two processes with four devices each go on; the second one is asked to end.
    pair = start_training(workdir, argument, 2, 4)
    wait_for_new_record(workdir, pair)
    pair.processes[1].send_signal(signal.SIGTERM)
    assert pair.wait() == [os.EX_TEMPFAIL] * 2, pair.texts()
    places = [re.search(r"saved before step \d+ of epoch \d+", text) for text in pair.texts()]
    assert places[0].group() == places[1].group()
    assert "process 1: SIGTERM: stopping after" in pair.texts()[1]
    assert "resuming before epoch" in pair.texts()[0]
    assert "resuming" not in pair.texts()[1], "the first process prints for all"

    # Again; the second one is killed.
    pair = start_training(workdir, argument, 2, 4)
    wait_for_new_record(workdir, pair)
    pair.processes[1].kill()
    killed = time.monotonic()
    assert pair.wait(timeout=60) == [1, -signal.SIGKILL], pair.texts()
    assert time.monotonic() - killed < 30
    assert "process 0: process 1 of this run has ended: it was killed" in pair.texts()[0]
    assert "the run goes on from its last checkpoint" in pair.texts()[0]

    # Back on two devices it ends.
    alone = start_training(workdir, argument, 1, 2)
    assert alone.wait() == [0], alone.texts()
    check_same(workdir, reference)


def check_same(workdir, reference):
    """The same records of steps, as far as they go, weights and errors on the test split."""
    ours, theirs = losses_of(workdir), losses_of(reference)
    assert len(ours) >= STEPS // 2
    for step, numbers in ours.items():
        np.testing.assert_allclose(numbers, theirs[step], rtol=1e-9, err_msg=f"step {step}")
    state, expected = saved_state(workdir), saved_state(reference)
    assert state["training"]["step"] == STEPS
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-13), state, expected
    )
    summaries = [json.loads((w / "test_metrics.json").read_text()) for w in (workdir, reference)]
    numbers = [[v for v in s.values() if isinstance(v, int | float)] for s in summaries]
    assert summaries[0].keys() == summaries[1].keys()
    np.testing.assert_allclose(*numbers, rtol=1e-9)


@pytest.mark.slow
def test_processes_with_different_settings_are_refused_by_all_of_them(argument, tmp_path):
    seeds = [[], ["--config.seed=7"]]
    pair = start_training(tmp_path / "run", argument, 2, 1, more_of_each=seeds)
    assert pair.wait() == [1, 1], pair.texts()
    for process, text in enumerate(pair.texts()):
        assert f"process {process}: ValueError: all processes of a run need the same" in text
        assert "config.seed: process 0 has 1, process 1 7" in text
        assert "Traceback" not in text


@pytest.fixture
def parsed_flags():
    """As in a program whose flags have been parsed."""
    were_parsed = flags.FLAGS.is_parsed()
    flags.FLAGS.mark_as_parsed()
    yield
    if not were_parsed:
        flags.FLAGS.unparse_flags()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"num_processes": 2, "process_id": 0}, "--coordinator_address: needed to run as one"),
        ({"coordinator_address": "here:1"}, "--num_processes, --process_id: needed"),
        (
            {"coordinator_address": "here", "num_processes": 2, "process_id": 0},
            "--coordinator_address=here; expected HOST:PORT",
        ),
        (
            {"coordinator_address": "here:1", "num_processes": 2, "process_id": 2},
            "--process_id=2; expected 0 to 1, one less than --num_processes",
        ),
        ({"distributed": True, "process_id": 2}, "--distributed finds out the other flags"),
    ],
)
def test_flags_that_do_not_fit_are_named(parsed_flags, given, message):
    with (
        flagsaver.flagsaver(**given),
        pytest.raises(ValueError, match=message),
        hosts.joined_hosts(batch_size=1),
    ):
        pass


def test_without_flags_a_program_is_one_process(parsed_flags, monkeypatch):
    monkeypatch.setattr(jax.distributed, "initialize", None)
    monkeypatch.setenv("XLA_FLAGS", "--xla_force_host_platform_device_count=1")
    with hosts.joined_hosts(batch_size=1):
        assert jax.process_count() == 1

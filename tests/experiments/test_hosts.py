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
from jax._src.distributed import global_state

from equiformer_jax.training import trainer
from equiformer_jax.training.errors import RunInterruptedError
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


def numbers_of(workdir, kinds):
    """What the log tells of the steps, and of the epochs, but for their times."""
    return {
        (record["kind"], record["step"]): {
            name: value
            for name, value in record.items()
            if isinstance(value, float) and name != "structures_per_second"
        }
        for record in read_metrics(workdir)
        if record["kind"] in kinds
    }


@pytest.mark.slow
@pytest.mark.parametrize(
    ("num_processes", "devices_of_each", "settings"),
    [
        (1, 8, []),
        (2, 4, ["--config.mesh.edge_parts=8"]),  # both hosts share the edges of all structures
    ],
)
def test_all_numbers_are_those_of_one_device(
    argument, reference, tmp_path, num_processes, devices_of_each, settings
):
    workdir = tmp_path / "run"
    more = [settings] * num_processes
    processes = start_training(workdir, argument, num_processes, devices_of_each, more)
    assert processes.wait() == [0] * num_processes, processes.texts()
    kinds = ("steps", "epoch")  # the last step of an epoch is in the record of the epoch only
    assert len(numbers_of(workdir, kinds)) == STEPS
    check_same(workdir, reference, kinds)


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

    # Again, and one of them is killed: the second one, then the first one.
    for victim in (1, 0):
        kill_one_of_two(workdir, argument, victim)

    # Back on two devices it ends.
    alone = start_training(workdir, argument, 1, 2)
    assert alone.wait() == [0], alone.texts()
    check_same(workdir, reference)


def kill_one_of_two(workdir, argument, victim):
    """Trains with two processes, kills one, and looks at how the other one ends."""
    pair = start_training(workdir, argument, 2, 4)
    wait_for_new_record(workdir, pair)
    pair.processes[victim].kill()
    killed = time.monotonic()
    statuses = pair.wait()
    assert time.monotonic() - killed < 30
    assert "resuming before epoch" in pair.texts()[0]
    assert statuses[victim] == -signal.SIGKILL
    other, text = statuses[1 - victim], pair.texts()[1 - victim]
    if victim == 0 and other == -signal.SIGABRT:
        return  # the first process is the server of jax, whose own error may come first
    assert other == 1, text
    assert f"process {1 - victim}: process {victim} of this run has ended: it was killed" in text
    assert "the run goes on from its last checkpoint" in text


def check_same(workdir, reference, kinds=("steps",)):
    """The same records, as far as they go, weights and errors on the test split."""
    ours, theirs = numbers_of(workdir, kinds), numbers_of(reference, kinds)
    assert len(ours) >= STEPS // 2
    for key, numbers in ours.items():
        assert numbers.keys() == theirs[key].keys() >= {"loss", "train_force_mae_mev_per_angstrom"}
        for name, number in numbers.items():
            where = f"{name} of {key}"
            np.testing.assert_allclose(number, theirs[key][name], rtol=1e-9, err_msg=where)
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


@pytest.mark.parametrize(
    ("flag", "address", "host"),
    [
        (None, "10.0.0.7:8476", "10.0.0.7"),
        (None, "node003:61000", "node003"),
        (None, "[fe80::7]:8476", "fe80::7"),
        ("here:1", "10.0.0.7:8476", "here"),
        (None, None, None),
    ],
)
def test_the_watch_uses_the_host_that_jax_uses(parsed_flags, monkeypatch, flag, address, host):
    """What this machine calls itself may be a name that the others cannot resolve."""
    used = []
    monkeypatch.setattr(hosts, "HostWatch", lambda process, host, on_loss: used.append(host))
    monkeypatch.setattr(global_state, "coordinator_address", address)
    with flagsaver.flagsaver(coordinator_address=flag):
        hosts._start_watch()
    assert used == [host]


def test_where_jax_does_not_tell_its_host_the_watch_has_its_own_way(parsed_flags, monkeypatch):
    monkeypatch.delattr(jax._src.distributed, "global_state")
    assert hosts._first_host() is None


@pytest.mark.parametrize(
    ("error", "calls"),
    [
        (RunInterruptedError("asked to end"), ["shutdown", os.EX_TEMPFAIL]),
        (ValueError("of one process"), [1]),
    ],
)
def test_an_error_of_all_ends_them_together_without_a_watch_too(
    parsed_flags, monkeypatch, error, calls
):
    """The first process would take the runtime of the others away."""
    called = []
    monkeypatch.setattr(jax.distributed, "shutdown", lambda: called.append("shutdown"))
    monkeypatch.setattr(os, "_exit", called.append)
    hosts._end(error, watch=None)
    assert called == calls

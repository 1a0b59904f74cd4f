"""As if this were the second process of a run; tests/experiments/test_hosts.py has two."""

from __future__ import annotations

import shutil
from types import SimpleNamespace

import pytest

from equiformer_jax.training import shared_listing
from equiformer_jax.training.checkpoint import Checkpoints
from equiformer_jax.training.errors import WorkdirError
from tests.training.endless_saves import record_after, state_after
from tests.training.test_checkpoint import save_all


@pytest.fixture
def workdir(tmp_path):
    save_all(tmp_path, [1.0, 2.0, 3.0])
    return tmp_path


@pytest.fixture
def first_process_sees_two(monkeypatch):
    """The first process has moved the last of three checkpoints away."""
    monkeypatch.setattr(shared_listing, "exchange", lambda steps: [[1, 2], steps])


def test_a_process_waits_until_it_sees_what_the_first_one_sees(
    workdir, first_process_sees_two, monkeypatch
):
    """A network file system shows for a while what was there before."""
    waits = []

    def wait(seconds):
        waits.append(seconds)
        if len(waits) == 3:
            shutil.rmtree(workdir / "checkpoints" / "3")

    monkeypatch.setattr(shared_listing, "time", SimpleNamespace(sleep=wait))
    with Checkpoints(workdir) as checkpoints:
        assert checkpoints.newest_good() == 2
        assert len(waits) == 3
        checkpoints.save(state_after(3), record_after(3))
        checkpoints.wait()
        assert (workdir / "checkpoints" / "3").is_dir()


def test_processes_that_go_on_seeing_different_checkpoints_are_named(
    workdir, first_process_sees_two, monkeypatch
):
    waits = []
    monkeypatch.setattr(shared_listing, "time", SimpleNamespace(sleep=waits.append))
    expected = (
        r"the same checkpoints in .*/checkpoints: process 0 sees those after the steps \[1, 2\], "
        r"process 1 \[1, 2, 3\]"
    )
    with pytest.raises(WorkdirError, match=expected), Checkpoints(workdir) as checkpoints:
        checkpoints.newest_good()
    assert 50 < sum(waits) <= 60


def test_a_single_process_reads_the_directory_once(workdir, monkeypatch):
    monkeypatch.setattr(shared_listing, "time", None)  # there is nothing to wait for
    with Checkpoints(workdir) as checkpoints:
        reads, reload = [], checkpoints._manager.reload
        monkeypatch.setattr(checkpoints._manager, "reload", lambda: reads.append(reload()))
        assert checkpoints.newest_good() == 3
        assert len(reads) == 1

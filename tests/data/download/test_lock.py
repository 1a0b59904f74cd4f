from __future__ import annotations

import json
import os
import threading
import time

import pytest

from equiformer_jax.data.download.lock import FileLock
from tests.data.download import children

HOLD = """
from equiformer_jax.data.download.lock import FileLock
with FileLock(arguments["path"]):
    print("held", flush=True)
    time.sleep(60)
"""

# Reads a number, waits, and writes the next one: lost updates show that two were inside.
COUNT = """
from equiformer_jax.data.download.lock import FileLock
number = pathlib.Path(arguments["number"])
for _ in range(arguments["times"]):
    with FileLock(arguments["path"], poll=0.002):
        value = int(number.read_text())
        time.sleep(0.002)
        number.write_text(str(value + 1))
"""


@pytest.fixture
def path(tmp_path):
    return tmp_path / "data.lock"


def test_the_file_is_there_while_the_lock_is_held(path):
    with FileLock(path):
        assert json.loads(path.read_text())["process"] == os.getpid()
    assert not list(path.parent.iterdir())


def test_an_error_inside_frees_the_lock(path):
    with pytest.raises(RuntimeError), FileLock(path):
        raise RuntimeError
    assert not path.exists()


def test_only_one_process_is_inside(path, tmp_path):
    number = tmp_path / "number"
    number.write_text("0")
    processes = [
        children.start(COUNT, path=str(path), number=str(number), times=10) for _ in range(3)
    ]
    for process in processes:
        children.finish(process)
    assert number.read_text() == "30"


def test_who_waits_is_told_for_whom(path):
    lines: list[str] = []
    with FileLock(path):
        waiting = threading.Thread(target=lambda: _acquire(path, lines))
        waiting.start()
        time.sleep(0.1)
        assert waiting.is_alive()
    waiting.join()
    assert len(lines) == 1
    assert f"waiting for process {os.getpid()} on " in lines[0]


def test_the_lock_of_a_killed_process_is_taken_over_at_once(path):
    process = children.start(HOLD, path=str(path))
    assert process.stdout.readline() == "held\n"
    children.kill(process)
    assert path.exists()
    lines: list[str] = []
    _acquire(path, lines)
    assert f"process {process.pid} on" in lines[0]
    assert "is gone; taking over" in lines[0]


@pytest.mark.parametrize("content", ['{"host": "far", "process": 1, "machine": "far"}', "", "[1]"])
def test_the_lock_of_another_host_is_taken_over_when_nobody_touches_it(path, content):
    path.write_text(content)
    start = time.monotonic()
    _acquire(path, [], stale_after=0.2)
    assert 0.2 < time.monotonic() - start < 10


def test_a_lock_that_is_touched_is_not_stale(path):
    lines: list[str] = []
    with FileLock(path, heartbeat=0.02):
        # As if another host held it: its process number says nothing here.
        path.write_text(json.dumps({"host": "far", "process": 1, "machine": "far"}))
        waiting = threading.Thread(target=lambda: _acquire(path, lines, stale_after=0.8))
        waiting.start()
        time.sleep(1.2)
        assert waiting.is_alive()
        path.unlink()
        waiting.join()
    assert not any("gone" in line for line in lines)


def test_a_lock_that_was_taken_over_is_left_to_its_new_holder(path):
    with FileLock(path):
        path.write_text("another's")
    assert path.read_text() == "another's"


def test_a_slow_process_does_not_break_the_new_lock_of_a_faster_one(path):
    lock = FileLock(path)
    path.write_text("new")
    lock._remove("stale")
    assert path.read_text() == "new"
    assert len(list(path.parent.iterdir())) == 1


def test_a_folder_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError), FileLock(tmp_path / "missing" / "data.lock"):
        pass


def _acquire(path, lines, stale_after=60.0):
    with FileLock(path, lines.append, poll=0.01, stale_after=stale_after):
        pass

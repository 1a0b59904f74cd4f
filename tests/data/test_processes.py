from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest

from equiformer_jax.data import processes
from tests.paths import REPOSITORY


def test_a_single_process_has_nobody_to_ask():
    value = object()
    assert processes.exchange(value) == [value]
    assert processes.is_first_process()
    assert processes.decided_by_first(lambda: value) is value
    assert processes.all_succeed(lambda: value) is value
    processes.require_same({"anything": value})
    for together in (processes.decided_by_first, processes.all_succeed):
        with pytest.raises(ZeroDivisionError):
            together(lambda: 1 / 0)


def test_other_settings_are_named(monkeypatch):
    monkeypatch.setattr(processes, "exchange", lambda value: [value, {"a": 2, "b": 1}])
    with pytest.raises(
        ValueError, match=r"a: process 0 has 1, process 1 2\n.*c: .* 3, process 1 None"
    ):
        processes.require_same({"a": 1, "b": 1, "c": 3})


@pytest.mark.slow
def test_two_processes_make_their_data_together(tmp_path):
    """Values, errors and graphs, in memory and in caches, shared or of each host."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
    programs = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.data.swapping_process"]
            + [address, "2", str(process), str(tmp_path)],
            cwd=REPOSITORY,
            env={**os.environ, "JAX_PLATFORMS": "cpu"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for process in range(2)
    ]
    try:
        outputs = [program.communicate(timeout=60) for program in programs]
    finally:
        for program in programs:
            program.kill()
    for output, errors in outputs:
        assert "all is well" in output, errors

"""What a person who waits for a download reads."""

from __future__ import annotations

import pathlib

import pytest

from equiformer_jax.data.download import progress


@pytest.fixture
def clock(monkeypatch):
    """The time in seconds, in a list of one."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_a_line_every_few_seconds_says_how_much_how_fast_and_how_long(clock):
    lines = []
    told = progress.Progress(lines.append, "http://a/b", pathlib.Path("/d"), 2_000_000, 12_000_000)
    assert lines == ["fetching http://a/b (12.0 MB) into /d, going on at 2.0 MB"]
    clock[0] += 1
    told.add(1_000_000)
    assert len(lines) == 1
    clock[0] += 9
    told.add(4_000_000)
    assert lines[1:] == ["  7.0 MB, 500.0 kB/s, 58%, 10 s left"]
    told.add(1)
    assert len(lines) == 2


def test_without_a_size_nothing_is_said_of_the_end(clock):
    lines = []
    told = progress.Progress(lines.append, "http://a/b", pathlib.Path("/d"), 0, None)
    clock[0] += 10
    told.add(1_000_000)
    assert lines == ["fetching http://a/b into /d", "  1.0 MB, 100.0 kB/s"]

from __future__ import annotations

import math

import jax.numpy as jnp
import pytest

from equiformer_jax.training.errors import WorkdirError
from equiformer_jax.training.metrics import (
    MetricsFile,
    average,
    format_duration,
    read_metrics,
)
from equiformer_jax.training.objectives import Mean


def record(epoch, kind="epoch"):
    return {"kind": kind, "epoch": epoch, "step": 10 * epoch, "loss": 1.0 / epoch}


def test_a_record_that_cannot_be_written_is_told_with_its_file(tmp_path):
    log = MetricsFile(tmp_path)
    log.path.unlink()
    log.path.mkdir()
    with pytest.raises(WorkdirError, match=r"cannot write .*metrics\.jsonl: Is a directory"):
        log.write(record(1))


def test_records_come_back(tmp_path):
    log = MetricsFile(tmp_path)
    log.write(record(1))
    log.write(record(2))
    assert read_metrics(tmp_path) == [record(1), record(2)]


def test_numbers_that_are_not_finite_are_null_in_the_file(tmp_path):
    MetricsFile(tmp_path).write({"kind": "epoch", "step": 1, "loss": float("nan")})
    assert '"loss": null' in (tmp_path / "metrics.jsonl").read_text()
    assert math.isnan(read_metrics(tmp_path)[0]["loss"])


def test_resuming_drops_what_came_after_the_checkpoint(tmp_path):
    log = MetricsFile(tmp_path)
    for epoch in (1, 2, 3):
        log.write(record(epoch))
    MetricsFile(tmp_path, steps_done=20).write(record(3, kind="steps"))
    assert read_metrics(tmp_path) == [record(1), record(2), record(3, kind="steps")]


def test_a_half_written_last_line_is_dropped(tmp_path):
    log = MetricsFile(tmp_path)
    log.write(record(1))
    with log.path.open("a") as file:
        file.write('{"kind": "ep')
    assert read_metrics(tmp_path) == [record(1)]


def test_a_damaged_line_is_named(tmp_path):
    log = MetricsFile(tmp_path)
    log.path.write_text("{}\nnonsense\n")
    with pytest.raises(ValueError, match=r"metrics.jsonl, line 2"):
        read_metrics(tmp_path)


def test_no_file_means_no_records(tmp_path):
    assert read_metrics(tmp_path) == []


def test_averages_weigh_steps_by_their_counts():
    steps = [
        {"loss": Mean(jnp.float32(2.0), jnp.int32(1)), "empty": Mean(0.0, 0)},
        {"loss": Mean(jnp.float32(4.0), jnp.int32(5)), "empty": Mean(0.0, 0)},
    ]
    averages = average(steps)
    assert averages["loss"] == pytest.approx(1.0)
    assert math.isnan(averages["empty"])


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.2, "0:00"), (75.2, "1:15"), (4000, "1:06:40"), (59.7, "1:00")]
)
def test_durations_read_like_a_clock(seconds, text):
    assert format_duration(seconds) == text

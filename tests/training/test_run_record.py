from __future__ import annotations

import dataclasses
import json

import pytest

from equiformer_jax.training.errors import CheckpointDamagedError, CheckpointFormatError
from equiformer_jax.training.run_record import RunRecord, read_record
from tests.training.endless_saves import CONFIG, record_after


def test_a_record_comes_back_through_json():
    record = record_after(3)
    values = json.loads(json.dumps(dataclasses.asdict(record)))
    assert RunRecord.from_dict(values) == record


@pytest.mark.parametrize("field", ["num_epochs", "batch_size", "start_from", "accumulate"])
def test_what_changes_weights_may_not(field):
    other = {**CONFIG, "training": {"log_every_steps": 0, field: 3}}
    assert record_after(2).differences(other) == [
        f"training.{field}: checkpoint '(absent)', asked for 3"
    ]


@pytest.mark.parametrize("values", [{"format_version": 2}, {}, ["format_version"]])
def test_what_is_no_record_is_refused(values):
    with pytest.raises(ValueError, match=r"record of|checkpoint format None|expected a record"):
        RunRecord.from_dict(values)


def test_the_end_of_an_epoch_is_where_the_next_one_begins():
    assert [record_after(step).is_epoch_end for step in (3, 4, 5)] == [False, True, False]


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        ('{"format_version": 1}', CheckpointFormatError, "checkpoint format 1; this version reads"),
        ("{", CheckpointDamagedError, "cannot read its record"),
        (None, CheckpointDamagedError, "cannot read its record"),
    ],
)
def test_a_record_that_cannot_be_read_is_named(content, error, message, tmp_path):
    (tmp_path / "record").mkdir()
    if content is not None:
        (tmp_path / "record" / "metadata").write_text(content)
    with pytest.raises(error, match=f"{tmp_path}: {message}"):
        read_record(tmp_path)

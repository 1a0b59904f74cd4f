from __future__ import annotations

import json
import os
import pathlib
import shutil
from types import SimpleNamespace

import pytest

from equiformer_jax.data.statistics import DatasetStatistics
from equiformer_jax.training import workdir as module
from equiformer_jax.training.errors import WorkdirError
from equiformer_jax.training.workdir import (
    check_free_space,
    load_config,
    prepare_workdir,
    save_config,
    save_statistics,
    write_text_atomically,
)

CONFIG = {"seed": 1, "data": {"name": "aspirin", "limits": [1, None]}, "model": {"smooth": False}}


def test_a_workdir_is_made_with_all_above_it_and_left_empty(tmp_path):
    path = prepare_workdir(tmp_path / "a" / "b")
    assert path == tmp_path / "a" / "b"
    assert list(path.iterdir()) == []


def test_a_bucket_is_no_workdir(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(WorkdirError, match="gs://bucket/run is not a folder"):
        prepare_workdir("gs://bucket/run")
    assert not list(tmp_path.iterdir())


def test_a_workdir_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(WorkdirError, match=r"cannot write to the workdir .*file/run: Not a dir"):
        prepare_workdir(tmp_path / "file" / "run")


def test_a_workdir_that_cannot_be_written_is_told(tmp_path, monkeypatch):
    def refuse(**_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(module.tempfile, "TemporaryFile", refuse)
    with pytest.raises(WorkdirError, match=r"cannot write to the workdir .*: Permission denied"):
        prepare_workdir(tmp_path)


def test_too_little_room_is_told_with_what_is_free_and_what_is_needed(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=2_500_000))
    check_free_space(tmp_path, 2_500_000)
    with pytest.raises(WorkdirError) as error:
        check_free_space(tmp_path, 1_234_500_000)
    for part in (str(tmp_path), "1,234.5 MB are needed", "2.5 MB are free"):
        assert part in str(error.value)


def test_the_real_disk_is_asked(tmp_path):
    check_free_space(tmp_path, 1)
    with pytest.raises(WorkdirError, match="too full"):
        check_free_space(tmp_path, 10**18)


def test_text_is_replaced_whole(tmp_path):
    path = tmp_path / "notes.txt"
    write_text_atomically(path, "first, and longer")
    write_text_atomically(path, "zweite Å\n")
    assert path.read_text(encoding="utf-8") == "zweite Å\n"
    assert [entry.name for entry in tmp_path.iterdir()] == ["notes.txt"]


def test_a_write_that_fails_leaves_the_old_text(tmp_path, monkeypatch):
    path = tmp_path / "notes.txt"
    write_text_atomically(path, "old")

    def fail(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(WorkdirError, match=r"cannot write .*notes\.txt: No space left on device"):
        write_text_atomically(path, "new")
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["notes.txt"]


def test_a_configuration_comes_back(tmp_path):
    save_config(tmp_path, CONFIG)
    assert json.loads((tmp_path / "config.json").read_text()) == CONFIG
    assert load_config(tmp_path).to_dict() == CONFIG


def test_statistics_come_back(tmp_path):
    statistics = DatasetStatistics(10, -1 / 3, 0.1, 15.0, 21.0, None, element_counts={6: 9})
    save_statistics(tmp_path, statistics)
    assert DatasetStatistics.load(tmp_path / "statistics.json") == statistics


@pytest.mark.parametrize("content", ["", '{"seed": 1, ', "[1, 2]", "\xff\x00"])
def test_a_damaged_configuration_is_named(content, tmp_path):
    (tmp_path / "config.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(WorkdirError, match=r"config\.json: expected the configuration of a run"):
        load_config(tmp_path)


def test_a_folder_without_a_configuration_is_no_workdir(tmp_path):
    with pytest.raises(WorkdirError, match=r"is not the workdir of a run: no config\.json"):
        load_config(tmp_path)


def test_a_configuration_that_may_not_be_read_is_told_apart(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(pathlib.Path, "read_text", refuse)
    with pytest.raises(WorkdirError, match=r"cannot read .*config\.json: Permission denied"):
        load_config(tmp_path)

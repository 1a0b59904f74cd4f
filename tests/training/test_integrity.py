from __future__ import annotations

import hashlib
import json
import shutil

import pytest

from equiformer_jax.training.checkpoint import Checkpoints
from equiformer_jax.training.errors import WorkdirError
from equiformer_jax.training.integrity import (
    CheckpointFiles,
    digest_files,
    find_changed_file,
    find_unreadable_item,
)
from tests.training.endless_saves import record_after, state_after

# Orbax leaves reads unfinished when one of them fails.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

STEP = 3
ITEMS = ("record", "params", "training", "ema_params")


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("saved")
    with Checkpoints(workdir) as checkpoints:
        checkpoints.save(state_after(STEP), record_after(STEP))
    return workdir


@pytest.fixture
def workdir(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "workdir")


def flip_a_bit(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut_off(path):
    path.write_bytes(path.read_bytes()[:-1])


def remove(path):
    path.unlink()


DAMAGES = {
    flip_a_bit: "has changed since it was written",
    cut_off: "bytes, expected",
    remove: "is missing",
}


def test_a_checkpoint_as_it_was_written_has_no_damage(workdir):
    files = CheckpointFiles(workdir)
    assert files.steps() == [STEP]
    assert files.find_damage(STEP) is None
    assert find_unreadable_item(files.path(STEP)) is None


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("part", [*ITEMS, ""])
def test_every_damage_of_every_file_is_found_and_named(part, damage, workdir):
    """The part that has no name is what orbax writes about a checkpoint as a whole."""
    files = CheckpointFiles(workdir)
    folder = files.path(STEP)
    paths = [path for path in folder.glob(f"{part}/**/*" if part else "*") if path.is_file()]
    assert len(paths) >= 2
    for path in paths:
        content = path.read_bytes()
        damage(path)
        found = files.find_damage(STEP)
        assert found.startswith(f"{path.relative_to(folder)} ")
        assert DAMAGES[damage] in found
        path.write_bytes(content)
    assert files.find_damage(STEP) is None


@pytest.mark.parametrize("item", ITEMS)
def test_an_item_that_is_gone_is_named(item, workdir):
    files = CheckpointFiles(workdir)
    shutil.rmtree(files.path(STEP) / item)
    assert files.find_damage(STEP).startswith(f"{item}/")
    assert find_unreadable_item(files.path(STEP)).startswith(f"{item} cannot be read")


@pytest.mark.parametrize("damage", [cut_off, remove])
@pytest.mark.parametrize("name", ["_METADATA", "manifest.ocdbt"])
@pytest.mark.parametrize("item", ["params", "training", "ema_params"])
def test_without_digests_an_item_that_cannot_be_read_is_named(item, name, damage, workdir):
    folder = CheckpointFiles(workdir).path(STEP)
    damage(folder / item / name)
    assert find_unreadable_item(folder).startswith(f"{item} cannot be read: ")


@pytest.mark.parametrize("damage", [cut_off, remove])
def test_without_digests_a_record_that_cannot_be_read_is_named(damage, workdir):
    folder = CheckpointFiles(workdir).path(STEP)
    damage(folder / "record" / "metadata")
    assert find_unreadable_item(folder).startswith("record cannot be read: ")


@pytest.mark.parametrize("content", ["", "[]", '{"item_handlers": {"params": ""}}'])
def test_without_digests_all_items_must_be_listed(content, workdir):
    folder = CheckpointFiles(workdir).path(STEP)
    (folder / "_CHECKPOINT_METADATA").write_text(content)
    assert find_unreadable_item(folder).startswith("_CHECKPOINT_METADATA ")


def test_digests_are_sizes_and_sha256_by_relative_path(tmp_path):
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "file").write_bytes(b"abc")
    expected = {"inner/file": {"size": 3, "sha256": hashlib.sha256(b"abc").hexdigest()}}
    assert digest_files(tmp_path) == expected


def test_files_that_came_in_addition_are_no_damage(tmp_path):
    (tmp_path / "file").write_bytes(b"abc")
    digests = digest_files(tmp_path)
    (tmp_path / "note").write_text("from a person")
    assert find_changed_file(tmp_path, digests) is None


@pytest.mark.parametrize("error", [PermissionError(13, "Permission denied"), OSError(5, "I/O")])
def test_what_this_user_may_not_read_is_told_apart_from_what_cannot_be_read(
    error, workdir, monkeypatch
):
    """Nothing is moved aside because a run was started by somebody else."""

    def fail(*_):
        raise error

    files = CheckpointFiles(workdir)
    monkeypatch.setattr(hashlib, "file_digest", fail)
    if isinstance(error, PermissionError):
        with pytest.raises(WorkdirError, match=r"cannot read .*checkpoints/3/.*Permission denied"):
            files.set_damaged_aside(print)
        assert files.steps() == [STEP]
    else:
        files.set_damaged_aside(print)
        assert files.steps() == []


@pytest.mark.parametrize("content", [None, "", "[]", "{}", '{"record/metadata": {"size": 3}}'])
def test_digests_that_are_not_there_or_damaged_are_written_anew_once_all_can_be_read(
    content, workdir
):
    digests = workdir / "checkpoint_digests" / "3.json"
    expected = json.loads(digests.read_text())
    if content is None:
        digests.unlink()
    else:
        digests.write_text(content)
    CheckpointFiles(workdir).set_damaged_aside(print)
    assert json.loads(digests.read_text()) == expected


def test_digests_of_checkpoints_that_are_gone_are_removed(workdir):
    folder = workdir / "checkpoint_digests"
    for name in ("2.json", "3.json.tmp"):
        (folder / name).write_text("{}")
    CheckpointFiles(workdir).seal(STEP)
    assert [path.name for path in folder.iterdir()] == ["3.json"]

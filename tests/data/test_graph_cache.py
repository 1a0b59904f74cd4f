from __future__ import annotations

import json
import mmap
import os
import re
import shutil
import signal
import subprocess
import sys

import jax
import numpy as np
import pytest

from equiformer_jax import Structure
from equiformer_jax.data import graph_building
from equiformer_jax.data.errors import DataError
from equiformer_jax.data.graph_building import build_graph_store
from equiformer_jax.data.graph_cache import cached_graph_store
from equiformer_jax.data.structures import StructureList
from tests.data.killed_cache_writer import FINGERPRINT
from tests.data.small_structures import CUTOFF, molecules, slabs
from tests.data.test_graph_building import assert_same_stores
from tests.paths import REPOSITORY


class Counted(StructureList):
    """Counts how often a structure is read."""

    def __init__(self, structures, title="counted", fingerprint=""):
        super().__init__(structures, title, fingerprint)
        self.reads = 0

    def structure(self, index):
        self.reads += 1
        return super().structure(index)


def is_mapped(array):
    """Whether the array lies in a file."""
    while isinstance(array, np.ndarray):
        array = array.base
    return isinstance(array, mmap.mmap)


def only_cache(folder):
    """The one thing that is in the folder."""
    (cache,) = folder.iterdir()
    return cache


def test_graphs_are_built_once(tmp_path):
    structures = Counted(slabs())
    stores = [cached_graph_store(structures, CUTOFF, 9, tmp_path) for _ in range(2)]
    assert structures.reads == len(structures) + 1  # the first one twice, for its fields
    for store in stores:
        assert_same_stores(store, build_graph_store(slabs(), CUTOFF, 9))
        positions = store.arrays["nodes.positions"]
        assert is_mapped(positions)
        assert not positions.flags.writeable


def test_whatever_decides_the_graphs_makes_another_cache(tmp_path):
    def ask(structures=None, cutoff=CUTOFF, max_neighbors=None):
        cached_graph_store(structures or molecules(4), cutoff, max_neighbors, tmp_path)

    with jax.enable_x64(True):
        ask()
        ask()
        assert len(list(tmp_path.iterdir())) == 1
        ask(cutoff=CUTOFF + 0.5)
        ask(max_neighbors=2)
        ask(structures=molecules(4, seed=1))
    with jax.enable_x64(False):
        ask()
    assert len(list(tmp_path.iterdir())) == 5


def test_types_grow_from_chunk_to_chunk(tmp_path, monkeypatch):
    monkeypatch.setattr(graph_building, "STRUCTURES_PER_CHUNK", 2)
    structures = [
        Structure(np.arange(count)[:, None] * np.array([1.0, 0, 0]), np.ones(count))
        for count in (3, 4, 5, 300, 6)
    ]
    store = cached_graph_store(structures, 1.5, None, tmp_path)
    assert store.arrays["edges.senders"].dtype == np.int16
    assert_same_stores(store, build_graph_store(structures, 1.5))
    assert {path.suffix for path in only_cache(tmp_path).iterdir()} == {".npy", ".json"}


def truncate(cache):
    path = cache / "edges.senders.npy"
    path.write_bytes(path.read_bytes()[:-1])


def flip_a_bit(cache):
    path = cache / "nodes.positions.npy"
    content = bytearray(path.read_bytes())
    content[-5] ^= 4
    path.write_bytes(content)


def remove_an_array(cache):
    (cache / "n_edge.npy").unlink()


def remove_the_manifest(cache):
    (cache / "manifest.json").unlink()


def cut_the_manifest(cache):
    path = cache / "manifest.json"
    path.write_text(path.read_text()[:-20])


def forget_a_field(cache):
    path = cache / "manifest.json"
    manifest = json.loads(path.read_text())
    del manifest["arrays"]["n_node"]["bytes"]
    path.write_text(json.dumps(manifest))


def put_a_file_in_its_place(cache):
    shutil.rmtree(cache)
    cache.write_text("not a folder")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (truncate, "edges.senders.npy: has .* bytes; expected"),
        (flip_a_bit, "nodes.positions.npy: its checksum differs"),
        (remove_an_array, "n_edge.npy: cannot be read"),
        (remove_the_manifest, "manifest.json: cannot be read: the cache is not complete"),
        (cut_the_manifest, "manifest.json: is not JSON"),
        (forget_a_field, "n_node.npy: cannot be read: KeyError"),
        (put_a_file_in_its_place, "manifest.json: cannot be read"),
    ],
)
def test_a_damaged_cache_is_told_and_built_again(tmp_path, damage, said):
    cached_graph_store(slabs(), CUTOFF, None, tmp_path)
    damage(only_cache(tmp_path))
    lines = []
    store = cached_graph_store(slabs(), CUTOFF, None, tmp_path, say=lines.append)
    (line,) = lines
    assert re.search(f"{said}.*; building the graphs again$", line)
    assert_same_stores(store, build_graph_store(slabs(), CUTOFF))
    cached_graph_store(slabs(), CUTOFF, None, only_cache(tmp_path).parent, say=pytest.fail)


def test_checksums_of_large_files_are_compared_on_request(tmp_path, monkeypatch):
    monkeypatch.setattr("equiformer_jax.data.array_files._SMALL_BYTES", 0)
    cached_graph_store(slabs(), CUTOFF, None, tmp_path)
    flip_a_bit(only_cache(tmp_path))
    cached_graph_store(slabs(), CUTOFF, None, tmp_path, say=pytest.fail)
    lines = []
    cached_graph_store(slabs(), CUTOFF, None, tmp_path, verify=True, say=lines.append)
    assert len(lines) == 1


@pytest.mark.usefixtures("float32_mode")  # as in the other process
def test_a_killed_process_leaves_nothing_that_could_be_taken_for_a_cache(tmp_path):
    command = [sys.executable, "-m", "tests.data.killed_cache_writer", str(tmp_path)]
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "half way\n"
        process.send_signal(signal.SIGKILL)
    left_behind = only_cache(tmp_path)
    assert (left_behind / "nodes.positions.npy").stat().st_size > 128  # it had begun
    structures = StructureList(molecules(9), "whole", FINGERPRINT)
    store = cached_graph_store(structures, CUTOFF, None, tmp_path, say=pytest.fail)
    assert_same_stores(store, build_graph_store(structures, CUTOFF))
    assert left_behind.exists()  # its process might still be at work

    long_ago = left_behind.stat().st_mtime - 7200
    for path in (*left_behind.iterdir(), left_behind):
        os.utime(path, (long_ago, long_ago))
    shutil.rmtree(next(path for path in tmp_path.iterdir() if path != left_behind))
    cached_graph_store(structures, CUTOFF, None, tmp_path)
    assert not left_behind.exists()


class Overtaken(Counted):
    """While its last structure is read, another process finishes the same cache."""

    other = None

    def structure(self, index):
        if index == len(self) - 1 and self.other is not None:
            other, self.other = self.other, None
            other()
        return super().structure(index)


def test_of_two_processes_the_slower_one_takes_what_the_quicker_one_made(tmp_path):
    quick = StructureList(slabs(), "quick", "the same")
    slow = Overtaken(slabs(), "slow", "the same")
    made = []
    slow.other = lambda: made.append(
        (cached_graph_store(quick, CUTOFF, None, tmp_path), os.stat(find_cache(tmp_path)).st_ino)
    )
    store = cached_graph_store(slow, CUTOFF, None, tmp_path)
    ((quick_store, inode),) = made
    assert only_cache(tmp_path).stat().st_ino == inode
    assert_same_stores(store, quick_store)


def test_what_another_process_made_is_replaced_if_it_is_damaged(tmp_path):
    quick = StructureList(slabs(), "quick", "the same")
    slow = Overtaken(slabs(), "slow", "the same")

    def make_and_damage():
        cached_graph_store(quick, CUTOFF, None, tmp_path)
        truncate(find_cache(tmp_path))

    slow.other = make_and_damage
    store = cached_graph_store(slow, CUTOFF, None, tmp_path)
    assert_same_stores(store, build_graph_store(slabs(), CUTOFF))
    cached_graph_store(quick, CUTOFF, None, only_cache(tmp_path).parent, say=pytest.fail)


def find_cache(folder):
    """The finished cache beside an unfinished one."""
    (cache,) = folder.glob("graphs-*")
    return cache


def test_an_error_in_the_data_leaves_nothing_behind(tmp_path):
    far = Structure([[0.0, 0, 0], [9, 0, 0]], [1, 1])
    with pytest.raises(ValueError, match="a graph without edges"):
        cached_graph_store([far], CUTOFF, None, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="file/caches: cannot hold a cache of graphs"):
        cached_graph_store(slabs(), CUTOFF, None, tmp_path / "file" / "caches")


def test_a_full_disk_is_told(tmp_path, monkeypatch):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("equiformer_jax.data.array_files._ArrayWriter.append", full)
    with pytest.raises(DataError, match=r"cannot be written: .*No space left on device"):
        cached_graph_store(slabs(), CUTOFF, None, tmp_path)
    assert not list(tmp_path.iterdir())

"""Graph stores on disk: neighbor lists are searched for once, not once a run.

A cache is a folder whose name tells what it was made from, so that changed data or another cutoff
make another cache. It appears whole or not at all: it is written under another name, and renamed.
"""

from __future__ import annotations

import collections
import os
import pathlib
import shutil
import time
import uuid
from collections.abc import Sequence

import numpy as np

from equiformer_jax.data.array_files import open_arrays, write_arrays
from equiformer_jax.data.errors import DataError
from equiformer_jax.data.graph_building import Say, build_chunks
from equiformer_jax.data.graph_store import GraphStore
from equiformer_jax.data.processes import exchange
from equiformer_jax.data.structures import as_sequence, digest
from equiformer_jax.graph import float_type
from equiformer_jax.structure import Structure

# Raise it whenever a change in the package changes what is in a store.
FORMAT_VERSION = 1

# An unfinished cache that nobody has written to for so long was left behind by a killed process.
_ABANDONED_AFTER_SECONDS = 3600.0


def cached_graph_store(
    structures: Sequence[Structure],
    cutoff: float,
    max_neighbors: int | None,
    folder: str | os.PathLike[str],
    *,
    num_workers: int = 0,
    verify: bool = False,
    say: Say | None = None,
    together: bool = False,
) -> GraphStore:
    """Opens the graphs of all structures from a folder, and builds them first if need be.

    The arrays are mapped from files: they take no memory of their own, and batches read what they
    need. Two processes may ask for the same cache at once; both build it then, and use one.

    Args:
      structures: at least one; their `fingerprint` tells whether they are those of the cache.
      cutoff: neighbors are closer than this, Å.
      max_neighbors: keep at most so many nearest neighbors of an atom; None keeps all.
      folder: where caches are kept; created if need be. Anything in it may be deleted at any time.
      num_workers: processes that build; 0 builds in this one (`build_graph_store`).
      verify: read all files of the cache and compare their checksums, not of the small ones alone.
      say: prints a line.
      together: every process of the run asks for the same graphs at the same time: each builds some
        of them. One writes them to a folder that all share; where hosts have folders of their own,
        each host writes.

    Raises:
      ValueError: as `build_graph_store`.
      DataError: the cache cannot be written.
    """
    structures, folder, real = (
        as_sequence(structures, "structures"),
        pathlib.Path(folder),
        float_type(),
    )
    made_from = (structures.fingerprint, float(cutoff), max_neighbors, real.str, FORMAT_VERSION)
    key = digest(*map(repr, made_from))
    if together:
        key = exchange(key)[0]  # elsewhere, files with the same data have other names or times
    cache = pathlib.Path(folder) / f"graphs-{key}"
    store = _open(cache, key, real, verify, say)
    if all(exchange(store is not None)) if together else store is not None:
        assert store is not None
        return store
    unfinished = _make_unfinished(cache)
    try:
        chunks = build_chunks(structures, cutoff, max_neighbors, num_workers, say, together)
        if together and _first_process_writes_here(unfinished):
            collections.deque(chunks, maxlen=0)
        else:
            write_arrays(unfinished, chunks, key)
            _publish(unfinished, cache, key)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    if together:
        exchange(None)  # by then it is written
    return GraphStore(open_arrays(cache, key), real)


def _open(
    cache: pathlib.Path, key: str, real: np.dtype, verify: bool, say: Say | None
) -> GraphStore | None:
    if not cache.exists():
        return None
    try:
        return GraphStore(open_arrays(cache, key, verify), real)
    except DataError as damage:
        if say is not None:
            say(f"{damage}; building the graphs again")
        return None


def _first_process_writes_here(unfinished: pathlib.Path) -> bool:
    """Whether another process, the first, writes into the folder of this one's caches, too."""
    name = exchange(unfinished.name)[0]
    return name != unfinished.name and unfinished.with_name(name).exists()


def _make_unfinished(cache: pathlib.Path) -> pathlib.Path:
    """A new folder beside the cache; those that killed processes left are removed."""
    prefix = f".{cache.name}."
    unfinished = cache.with_name(prefix + uuid.uuid4().hex[:12])
    try:
        unfinished.mkdir(parents=True)
    except OSError as error:
        raise DataError(cache.parent, f"cannot hold a cache of graphs: {error}") from error
    for other in cache.parent.glob(f"{prefix}*"):
        if other != unfinished and _seconds_since_change(other) > _ABANDONED_AFTER_SECONDS:
            shutil.rmtree(other, ignore_errors=True)
    return unfinished


def _seconds_since_change(folder: pathlib.Path) -> float:
    try:
        changes = [path.stat().st_mtime for path in (folder, *folder.iterdir())]
    except FileNotFoundError:  # its writer has just removed or renamed something
        return 0.0
    return time.time() - max(changes)


def _publish(unfinished: pathlib.Path, cache: pathlib.Path, key: str) -> None:
    """Gives a finished cache its name, unless another process has been quicker."""
    try:
        os.rename(unfinished, cache)
        return
    except OSError:
        if not cache.exists():
            raise
    try:
        open_arrays(cache, key)
    except DataError:
        # What is there is damaged. Renamed first, so that nobody opens it half deleted.
        discarded = unfinished.with_name(f"{unfinished.name}-discarded")
        os.rename(cache, discarded)
        os.rename(unfinished, cache)
        if discarded.is_dir():
            shutil.rmtree(discarded, ignore_errors=True)
        else:
            discarded.unlink()

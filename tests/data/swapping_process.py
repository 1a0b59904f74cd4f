"""One of several processes that make their data together; run by test_processes.py.

python -m tests.data.swapping_process COORDINATOR_ADDRESS NUM_PROCESSES PROCESS FOLDER
"""

from __future__ import annotations

import pathlib
import sys

import jax
import numpy as np
import pytest

from equiformer_jax.data import graph_building, graph_cache, processes
from equiformer_jax.data.errors import DataError
from equiformer_jax.data.graph_building import build_graph_store
from equiformer_jax.data.graph_cache import cached_graph_store
from equiformer_jax.data.structures import StructureList
from tests.data.small_structures import CUTOFF, WithBrokenRecord, molecules


class Counted(StructureList):
    """Knows which structures have been read."""

    def __init__(self, structures, title="counted"):
        super().__init__(structures, title)
        self.read = set()

    def structure(self, index):
        self.read.add(index)
        return super().structure(index)


def check_values():
    count, own = jax.process_count(), jax.process_index()
    assert processes.is_first_process() == (own == 0)
    # More than goes over the wires at once, of different sizes, one of them nothing.
    value = None if own == 0 else np.arange(own * 300_000)
    for process, received in enumerate(processes.exchange(value)):
        expected = None if process == 0 else np.arange(process * 300_000)
        np.testing.assert_array_equal(received, expected)
    assert processes.decided_by_first(lambda: own) == 0
    with pytest.raises(DataError if own == 0 else ValueError, match="of process 0"):
        processes.decided_by_first(lambda: fail(0))
    assert processes.all_succeed(lambda: own) == own
    with pytest.raises(ValueError, match="of process 1"):
        processes.all_succeed(lambda: fail(1))
    processes.require_same({"same": [1, 2.5, None]})
    with pytest.raises(ValueError, match="number: process 0 has 0, process 1 1$"):
        processes.require_same({"same": 1, "number": own})
    return count


def fail(process):
    if jax.process_index() == process:
        raise DataError("file", f"error of process {process}")


def check_graphs(folder):
    graph_building.STRUCTURES_PER_CHUNK = 4
    several = molecules(22)
    alone = build_graph_store(several, CUTOFF)
    structures = Counted(several)
    together = build_graph_store(structures, CUTOFF, together=True)
    assert_same_arrays(together, alone)
    own = jax.process_index()
    chunks = [range(first, min(first + 4, 22)) for first in range(0, 22, 4)]
    assert structures.read == {
        0,
        *(i for chunk in chunks[own :: jax.process_count()] for i in chunk),
    }
    with pytest.raises(ValueError, match="broken.npz.*not finite"):
        build_graph_store(WithBrokenRecord(several, 9), CUTOFF, together=True)

    written = []
    graph_cache.write_arrays = noting(graph_cache.write_arrays, written)
    for name, writers in (("shared", {0}), (f"own_{own}", {0, 1})):
        for is_there in (False, True):
            structures = Counted(several)
            cached = cached_graph_store(structures, CUTOFF, None, folder / name, together=True)
            assert_same_arrays(cached, alone)
            assert len(written) == (not is_there and own in writers)
            written.clear()
            assert bool(structures.read) == (not is_there)
        (cache,) = (folder / name).iterdir()
    # One host has lost its cache: all build again, and it has it again.
    if own == 1:
        (folder / name / cache.name).rename(folder / f"lost_{own}")
    assert_same_arrays(
        cached_graph_store(Counted(several), CUTOFF, None, folder / name, together=True), alone
    )
    assert cache.exists()


def noting(write, written):
    def note(*arguments):
        written.append(1)
        return write(*arguments)

    return note


def assert_same_arrays(left, right):
    assert left.arrays.keys() == right.arrays.keys()
    for name, array in right.arrays.items():
        np.testing.assert_array_equal(left.arrays[name], array)


def main():
    address, count, process, folder = sys.argv[1:]
    jax.config.update("jax_enable_preemption_service", False)
    jax.distributed.initialize(
        address,
        int(count),
        int(process),
        heartbeat_timeout_seconds=10,
        shutdown_timeout_seconds=10,
    )
    check_values()
    check_graphs(pathlib.Path(folder))
    processes.exchange(None)
    print("all is well")


if __name__ == "__main__":
    main()

"""Graph stores from structures: one pass over the data, in this process or in several."""

from __future__ import annotations

import collections
import concurrent.futures
import functools
import itertools
import multiprocessing
import time
from collections.abc import Callable, Iterator, Sequence

import jax
import jraph
import numpy as np

from equiformer_jax.data.graph_store import GraphStore, concatenate, flatten_graphs
from equiformer_jax.data.portable_errors import portable
from equiformer_jax.data.processes import all_succeed, exchange
from equiformer_jax.data.structures import StructureSequence, as_sequence
from equiformer_jax.graph import build_graph_in, float_type, require_edges
from equiformer_jax.structure import Structure

Say = Callable[[str], None]
Chunk = dict[str, np.ndarray]

STRUCTURES_PER_CHUNK = 512
_SECONDS_BETWEEN_LINES = 10.0


def build_graph_store(
    structures: Sequence[Structure],
    cutoff: float,
    max_neighbors: int | None = None,
    *,
    num_workers: int = 0,
    say: Say | None = None,
    together: bool = False,
) -> GraphStore:
    """Builds the graphs of all structures and keeps them in memory.

    Args:
      structures: at least one.
      cutoff: neighbors are closer than this, Å.
      max_neighbors: keep at most so many nearest neighbors of an atom.
      num_workers: processes that build; 0 builds in this one. They take some seconds to start, and
        the main module of a program that uses them needs `if __name__ == "__main__"`.
      say: prints a line; told about the progress of long builds.
      together: every process of the run asks for the same graphs at the same time: each builds some
        of them, and all get all.

    Raises:
      ValueError: there is no structure; one has no edge; two have different fields. Names them.
    """
    chunks = build_chunks(
        as_sequence(structures, "structures"), cutoff, max_neighbors, num_workers, say, together
    )
    return GraphStore(concatenate(list(chunks)), float_type())


def build_chunks(
    structures: StructureSequence,
    cutoff: float,
    max_neighbors: int | None,
    num_workers: int = 0,
    say: Say | None = None,
    together: bool = False,
) -> Iterator[Chunk]:
    """Yields the flat arrays of the structures' graphs, some hundred structures at a time.

    Args:
      structures: at least one.
      cutoff: Å.
      max_neighbors: or None.
      num_workers: processes, or 0.
      say: prints a line, or None.
      together: as `build_graph_store`; all processes then need to take all chunks.

    Raises:
      ValueError: as `build_graph_store`.
    """
    if not len(structures):
        raise ValueError("a graph store needs at least one structure, got none")
    builder = _ChunkBuilder(structures, cutoff, max_neighbors, float_type())
    starts = range(0, len(structures), STRUCTURES_PER_CHUNK)
    count = jax.process_count() if together else 1
    own = starts[jax.process_index() :: count] if count > 1 else starts
    chunks = _in_processes(builder, own, num_workers) if num_workers else map(builder, own)
    if count > 1:
        chunks = _of_all_hosts(chunks, len(starts))
    return _with_progress(chunks, len(structures), say)


class _ChunkBuilder:
    """Builds the graphs from one index on; travels to worker processes."""

    def __init__(
        self,
        structures: StructureSequence,
        cutoff: float,
        max_neighbors: int | None,
        real: np.dtype,
    ) -> None:
        self._structures, self._real = structures, real
        self._cutoff, self._max_neighbors = cutoff, max_neighbors

    def __call__(self, start: int) -> Chunk:
        indices = range(start, min(start + STRUCTURES_PER_CHUNK, len(self._structures)))
        structures = [self._structures[index] for index in indices]
        graphs = [
            self._checked(self._graph(structure), index)
            for index, structure in zip(indices, structures, strict=True)
        ]
        return flatten_graphs(structures, graphs)

    def _graph(self, structure: Structure) -> jraph.GraphsTuple:
        return build_graph_in(self._real, structure, self._cutoff, self._max_neighbors)

    @functools.cached_property
    def _fields(self) -> set[str]:
        """Those of the first structure, which all others need to have as well."""
        return _fields_of(self._graph(self._structures[0]))

    def _checked(self, graph: jraph.GraphsTuple, index: int) -> jraph.GraphsTuple:
        if graph.n_edge[0] == 0:
            require_edges(graph, self._structures.name_of(index))
        different = self._fields ^ _fields_of(graph)
        if different:
            field = min(different)
            holder, lacking = (0, index) if field in self._fields else (index, 0)
            raise ValueError(
                f"{self._structures.name_of(holder)} has {field} and "
                f"{self._structures.name_of(lacking)} has not: the structures of one data set need "
                "the same fields"
            )
        return graph


def _fields_of(graph: jraph.GraphsTuple) -> set[str]:
    """Names of the structure's fields that are in its graph; a cell is there if it is periodic."""
    names = graph.nodes.keys() | graph.globals.keys()
    return {"periodic directions" if name == "cell" else name for name in names}


_builder: _ChunkBuilder | None = None  # of a worker process


def _start_worker(builder: _ChunkBuilder) -> None:
    global _builder
    _builder = builder


def _build_in_worker(start: int) -> Chunk:
    assert _builder is not None
    try:
        return _builder(start)
    except Exception as error:
        raise portable(error) from None


def _in_processes(
    builder: _ChunkBuilder, starts: Sequence[int], num_workers: int
) -> Iterator[Chunk]:
    """The chunks in their order; only a few more are built than have been taken."""
    with concurrent.futures.ProcessPoolExecutor(
        num_workers,
        # Forking a process in which jax runs threads may hang it.
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_start_worker,
        initargs=(builder,),
    ) as pool:
        remaining = iter(starts)
        pending = collections.deque(
            pool.submit(_build_in_worker, start)
            for start in itertools.islice(remaining, 2 * num_workers)
        )
        try:
            while pending:
                yield pending.popleft().result()
                pending.extend(
                    pool.submit(_build_in_worker, start) for start in itertools.islice(remaining, 1)
                )
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _of_all_hosts(own: Iterator[Chunk], total: int) -> Iterator[Chunk]:
    """The chunks in their order, which processes build in turn; each builds one, then all swap."""
    for first in range(0, total, jax.process_count()):
        built = all_succeed(lambda: next(own, None))
        swapped = [chunk for chunk in exchange(built) if chunk is not None]
        assert len(swapped) == min(jax.process_count(), total - first)
        yield from swapped


def _with_progress(chunks: Iterator[Chunk], total: int, say: Say | None) -> Iterator[Chunk]:
    done, start = 0, time.monotonic()
    told = start
    for chunk in chunks:
        yield chunk
        done, now = done + len(chunk["n_node"]), time.monotonic()
        if say is not None and now - told > _SECONDS_BETWEEN_LINES:
            say(f"graphs of {done:,} of {total:,} structures, {done / (now - start):,.0f} a second")
            told = now

"""Batches made ahead of time by grain, in threads or in processes, always in the same order."""

from __future__ import annotations

import contextlib
import dataclasses
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from multiprocessing import resource_tracker
from typing import NamedTuple, Protocol

import grain
import jraph
import numpy as np
from absl import flags

from equiformer_jax.data.portable_errors import portable

# NumPy holds Python's lock for much of the time: more threads do not make more batches.
_THREADS = 2
_BATCHES_AHEAD = 4

# What asks a program to end, often all of its processes at once: a scheduler, a shutdown, Ctrl-C.
# Only the process that trains is to heed it; it needs batches until its last step is done.
SIGNALS_TO_END = (signal.SIGTERM, signal.SIGINT)


@dataclasses.dataclass(frozen=True)
class DeviceBatch:
    """The part of one batch that this process feeds to its devices, padded.

    Attributes:
      graph: `GraphsTuple` of NumPy arrays, each with a leading device axis.
      indices: for each device, which structures its graphs are, in their order in the batch.
      fill: shares of node slots and of edge slots that are real work.
    """

    graph: jraph.GraphsTuple
    indices: list[np.ndarray]
    fill: tuple[float, float]


class Position(NamedTuple):
    """Where in a training a stream of batches stands: what to save to go on from there.

    Attributes:
      epoch: from 0.
      step: the batch that comes next, from 0.
    """

    epoch: int
    step: int


class Assemble(Protocol):
    """Makes batch `step` of an epoch, from nothing but what it was made with."""

    def __call__(self, step: int) -> DeviceBatch:
        """Makes the batch; called from several threads at once, or in other processes."""


class EpochIterator(Iterator[DeviceBatch]):
    """The batches of one epoch from some step on.

    Use it in a `with` block, or close it: batches are made ahead of time in the background until
    all have been taken.

    Attributes:
      position: the batch that comes next.
    """

    def __init__(
        self,
        assemble: Assemble,
        epoch: int,
        first_step: int,
        num_steps: int,
        num_workers: int = 0,
    ) -> None:
        """Starts nothing yet: the first batch that is asked for starts the others.

        Args:
          assemble: makes a batch; picklable if there are workers.
          epoch: for `position`.
          first_step: the first batch to give.
          num_steps: batches in the whole epoch.
          num_workers: processes that make batches; 0 makes them in threads of this one. They take
            some seconds to start, in every epoch anew. SIGTERM and SIGINT do not end them; they end
            with this process.

        Raises:
          ValueError: there is no such step.
        """
        if not 0 <= first_step <= num_steps:
            raise ValueError(f"first_step: expected 0 to {num_steps}, got {first_step}")
        self.position = Position(epoch, first_step)
        self._num_steps = num_steps
        make = _InWorker(assemble) if num_workers else assemble
        batches = (
            grain.MapDataset.range(first_step, num_steps)
            .map(make)
            .to_iter_dataset(grain.ReadOptions(_THREADS, _BATCHES_AHEAD))
        )
        if num_workers:
            _use_defaults_of_flags()
            options = grain.MultiprocessingOptions(num_workers, per_worker_buffer_size=2)
            batches = batches.mp_prefetch(options, worker_init_fn=_live_with_parent)
        self._batches = iter(batches)
        self._starts_workers = num_workers > 0

    def __next__(self) -> DeviceBatch:
        if self.position.step == self._num_steps:
            self.close()
            raise StopIteration
        try:
            batch = self._take()
        except BaseException:
            self.close()
            raise
        self.position = self.position._replace(step=self.position.step + 1)
        return batch

    def _take(self) -> DeviceBatch:
        starts_workers, self._starts_workers = self._starts_workers, False
        with _new_processes_protected() if starts_workers else contextlib.nullcontext():
            return next(self._batches)

    def __enter__(self) -> EpochIterator:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the threads or processes that make batches; once is enough."""
        self._batches.close()


@contextlib.contextmanager
def _new_processes_protected() -> Iterator[None]:
    """Processes started in here never get the signals to end; this one gets them afterwards."""
    resource_tracker.ensure_running()  # its start lets the signals through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS_TO_END)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _live_with_parent(worker: int, count: int) -> None:
    """Makes a worker process ignore the signals to end, and end when its parent is gone."""
    for number in SIGNALS_TO_END:
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_after_parent, daemon=True).start()


def _end_after_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _use_defaults_of_flags() -> None:
    """Lets grain read its flags where none have been parsed, as in notebooks and tests."""
    if not flags.FLAGS.is_parsed():
        for name in flags.FLAGS:
            if name.startswith("grain_"):
                flags.FLAGS[name].present = 1


class _InWorker:
    """Errors of a worker process must survive the way back."""

    def __init__(self, assemble: Assemble) -> None:
        self._assemble = assemble

    def __call__(self, step: int) -> DeviceBatch:
        try:
            return self._assemble(step)
        except Exception as error:
            raise portable(error) from None

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from equiformer_jax.data.prefetch import EpochIterator, Position
from tests.heard_signals import heard_signals
from tests.paths import REPOSITORY

SIGNALS_TO_END = (signal.SIGTERM, signal.SIGINT)


def background_threads():
    return [thread for thread in threading.enumerate() if "grain" in thread.name]


def wait_until_gone():
    deadline = time.monotonic() + 10
    while background_threads() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not background_threads()


def as_is(step):
    return int(step)


def test_steps_come_in_their_order_however_long_each_takes():
    def slow_at_first(step):
        time.sleep(0.02 if step % 4 == 0 else 0)
        return int(step)

    assert list(EpochIterator(slow_at_first, 0, 0, 12)) == list(range(12))
    wait_until_gone()


def test_the_position_tells_what_comes_next():
    batches = EpochIterator(as_is, epoch=3, first_step=1, num_steps=4)
    assert batches.position == Position(3, 1)
    assert next(batches) == 1
    assert batches.position == Position(3, 2)
    assert list(batches) == [2, 3]
    assert batches.position == Position(3, 4)
    assert next(batches, None) is None


def test_an_epoch_may_have_nothing_left():
    assert list(EpochIterator(as_is, 0, 4, 4)) == []


@pytest.mark.parametrize("step", [-1, 5])
def test_there_must_be_such_a_step(step):
    with pytest.raises(ValueError, match=f"first_step: expected 0 to 4, got {step}"):
        EpochIterator(as_is, 0, step, 4)


def test_leaving_early_ends_the_threads():
    with EpochIterator(as_is, 0, 0, 1000) as batches:
        next(batches)
        assert background_threads()
    wait_until_gone()
    batches.close()


def test_errors_reach_the_consumer_when_their_turn_comes():
    def fails_at_two(step):
        if step == 2:
            raise ValueError("structure 17: no such record")
        return int(step)

    batches = EpochIterator(fails_at_two, 0, 0, 9)
    assert [next(batches), next(batches)] == [0, 1]
    with pytest.raises(ValueError, match="structure 17: no such record"):
        next(batches)
    wait_until_gone()


@pytest.fixture
def heard():
    """The signals that this process gets."""
    with heard_signals(SIGNALS_TO_END) as signals:
        yield signals


@contextlib.contextmanager
def everybody_asked_to_end():
    """Workers get signals again and again from the moment they start, this process gets one."""
    is_over, workers = threading.Event(), set()

    def send():
        while not is_over.wait(0.01):
            for worker in multiprocessing.active_children():
                if not workers:
                    os.kill(os.getpid(), signal.SIGTERM)
                workers.add(worker.pid)
                for number in SIGNALS_TO_END:
                    os.kill(worker.pid, number)

    sender = threading.Thread(target=send)
    sender.start()
    try:
        yield workers
    finally:
        is_over.set()
        sender.join()


def handler_of_sigterm(step):
    return signal.getsignal(signal.SIGTERM)


def test_signals_to_end_reach_this_process_and_not_its_workers(heard):
    batches = EpochIterator(handler_of_sigterm, 0, 0, 20, num_workers=2)
    with batches, everybody_asked_to_end() as workers:
        handlers = list(batches)
    assert handlers == [signal.SIG_IGN] * 20
    assert len(workers) == 2
    assert heard == [signal.SIGTERM]
    assert not multiprocessing.active_children()


PROGRAM_WITH_A_WORKER = """
import multiprocessing, operator, sys
from equiformer_jax.data.prefetch import EpochIterator
batches = EpochIterator(operator.index, 0, 0, 10**6, num_workers=1)
next(batches)
print(multiprocessing.active_children()[0].pid, flush=True)
sys.stdin.read()
"""


def test_workers_end_when_their_program_is_killed():
    program = subprocess.Popen(
        [sys.executable, "-c", PROGRAM_WITH_A_WORKER],
        cwd=REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    worker = int(program.stdout.readline())
    program.kill()
    try:
        program.communicate(timeout=60)  # until nobody holds its standard output any more
    except subprocess.TimeoutExpired:
        os.kill(worker, signal.SIGKILL)
        raise

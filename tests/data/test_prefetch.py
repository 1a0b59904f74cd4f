from __future__ import annotations

import threading
import time

import pytest

from equiformer_jax.data.prefetch import EpochIterator, Position


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

from __future__ import annotations

import os
import signal
import threading

import pytest

from equiformer_jax.training.interruption import Interruption
from tests.heard_signals import heard_signals

SIGNALS = [signal.SIGTERM, signal.SIGINT]


@pytest.fixture
def received():
    """What arrives at the handlers that were there before."""
    with heard_signals(SIGNALS) as signals:
        yield signals


@pytest.mark.parametrize("number", SIGNALS)
def test_the_first_signal_is_a_request_and_the_second_acts_as_before(number, received, capfd):
    with Interruption() as interruption:
        assert not interruption.requested
        os.kill(os.getpid(), number)
        assert interruption.requested
        assert received == []
        assert capfd.readouterr().err.startswith(f"{number.name}: stopping after this step")
        os.kill(os.getpid(), number)
        assert received == [number]
    assert interruption.requested


@pytest.mark.parametrize("number", SIGNALS)
def test_the_old_handlers_are_back_afterwards(number, received):
    before = signal.getsignal(number)
    with Interruption() as interruption:
        assert signal.getsignal(number) is not before
    assert signal.getsignal(number) is before
    os.kill(os.getpid(), number)
    assert received == [number]
    assert not interruption.requested


def test_the_old_handlers_are_back_after_an_error(received):
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyError), Interruption():
        raise KeyError
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_signal_that_was_ignored_stays_ignored(received):
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with Interruption() as interruption:
        os.kill(os.getpid(), signal.SIGINT)
        assert not interruption.requested
        os.kill(os.getpid(), signal.SIGTERM)
        assert interruption.requested


def test_in_another_thread_nothing_is_requested_and_nothing_changes(received):
    handlers, requested = [], []

    def loop():
        with Interruption() as interruption:
            handlers.extend(signal.getsignal(number) for number in SIGNALS)
            requested.append(interruption.requested)

    before = [signal.getsignal(number) for number in SIGNALS]
    thread = threading.Thread(target=loop)
    thread.start()
    thread.join()
    assert handlers == before
    assert requested == [False]

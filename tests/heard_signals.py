"""Signals that this process gets, heard instead of obeyed."""

from __future__ import annotations

import contextlib
import signal


@contextlib.contextmanager
def heard_signals(numbers):
    """The list of those that come while the block runs, by handlers of its own."""
    signals = []
    before = {number: signal.signal(number, lambda n, _: signals.append(n)) for number in numbers}
    try:
        yield signals
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

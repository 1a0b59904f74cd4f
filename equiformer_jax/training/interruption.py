"""The wish to stop, as a flag: what a scheduler or a person asks for in the middle of a step."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import types
from typing import Any

import jax

from equiformer_jax.data.prefetch import SIGNALS_TO_END


class Interruption:
    """Makes a flag of the first SIGTERM or Ctrl-C, so that a loop ends its step and saves.

    with Interruption() as interruption:
        for batch in batches:
            ...
            if interruption.requested:
                break

    The second signal acts as it did before the `with` block, for whoever will not wait; so does
    every signal after it. A signal that was ignored before, as that of Ctrl-C in a background job,
    stays ignored. Only the main thread of a program receives signals: elsewhere nothing is ever
    requested. Each process sees the signals that it gets itself (`shared_wish.SharedWish`).

    Attributes:
      requested: whether a signal has come.
    """

    def __init__(self) -> None:
        self.requested = False
        self._handlers: dict[signal.Signals, Any] = {}
        # Not asked for when a signal comes: jax may be in the middle of something.
        self._who = f"process {jax.process_index()}: " if jax.process_count() > 1 else ""

    def __enter__(self) -> Interruption:
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS_TO_END:
                handler = signal.getsignal(number)
                # None: a handler that was not set from Python and could not be put back.
                if handler not in (None, signal.SIG_IGN):
                    self._handlers[number] = handler
                    signal.signal(number, self._request)
        return self

    def __exit__(self, *_: object) -> None:
        self._restore()

    def _request(self, number: int, frame: types.FrameType | None) -> None:
        self.requested = True
        self._restore()
        # Not print: the signal may have come in the middle of one.
        name = signal.Signals(number).name
        text = f"{self._who}{name}: stopping after this step; once more to stop without saving\n"
        with contextlib.suppress(OSError):  # nobody reads it any more
            os.write(2, text.encode())

    def _restore(self) -> None:
        while self._handlers:
            signal.signal(*self._handlers.popitem())

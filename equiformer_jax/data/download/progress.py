"""How far a download is, in lines."""

from __future__ import annotations

import pathlib
import time
from collections.abc import Callable

from equiformer_jax.data.download.sources import readable_size

Say = Callable[[str], None]

_SECONDS_BETWEEN_LINES = 5.0


class Progress:
    """Says how far a download is: a line every few seconds."""

    def __init__(
        self, say: Say, url: str, folder: pathlib.Path, offset: int, total: int | None
    ) -> None:
        """Says what begins.

        Args:
          say: prints a line.
          url: where the file comes from.
          folder: where it goes.
          offset: bytes that are there already.
          total: bytes of the whole file, if known.
        """
        size = "" if total is None else f" ({readable_size(total)})"
        start = f", going on at {readable_size(offset)}" if offset else ""
        say(f"fetching {url}{size} into {folder}{start}")
        self._say, self._offset, self._total = say, offset, total
        self._start = self._last = time.monotonic()
        self._received = 0

    def add(self, count: int) -> None:
        """Counts so many bytes more."""
        self._received += count
        now = time.monotonic()
        if now - self._last < _SECONDS_BETWEEN_LINES:
            return
        self._last = now
        have, rate = self._offset + self._received, self._received / (now - self._start)
        line = f"  {readable_size(have)}, {readable_size(rate)}/s"
        if self._total is not None:
            left = (self._total - have) / max(rate, 1.0)
            line += f", {have / self._total:.0%}, {left:.0f} s left"
        self._say(line)

"""Which frames of a file are asked for, in ASE's notation."""

from __future__ import annotations

import re

import numpy as np

_NUMBER = re.compile(r"[+-]?\d+")


def select_frames(index: str | int | slice, num_frames: int) -> np.ndarray:
    """Numbers of the frames that an index stands for.

    Args:
      index: as in ASE, a number ("-1" is the last frame), or "start:stop:step" with any part left
        out; or a Python number or slice.
      num_frames: how many there are.

    Returns:
      int64 `[n]`, n at least 1.

    Raises:
      ValueError: the index is malformed, or there are no such frames.
    """
    chosen = _as_slice(index)
    frames = np.arange(num_frames, dtype=np.int64)[chosen]
    if not len(frames):
        raise ValueError(f"index: {index!r} selects none of {num_frames} frames")
    return frames


def _as_slice(index: str | int | slice) -> slice:
    if isinstance(index, slice):
        return index
    parts = str(index).strip().split(":")
    if len(parts) > 3 or not all(_NUMBER.fullmatch(part) or not part for part in parts):
        raise ValueError(f"index: expected a number or 'start:stop:step', got {index!r}")
    if parts == [""]:
        raise ValueError("index: expected a number or 'start:stop:step', got nothing")
    numbers = [int(part) if part else None for part in parts]
    if len(numbers) > 1:
        return slice(*numbers)
    number = int(parts[0])
    return slice(number, number + 1 or None)

"""The largest batch whose step fits on a chip: from a line through two sizes, then compiled."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

from experiments.tpu.compiling import Compiled, TooLarge

_MOST_TRIES = 4
# How much of the memory a size is meant to fill, so that the line may be a little wrong.
_SHARE = 0.97
# A size is at most so many times the largest that was compiled: far from known sizes a line errs,
# and what does not fit by far takes the compiler long.
_MOST_GROWTH = 16
# A size that fits is taken as the largest if it is at least this share of what the line says.
_CLOSE_ENOUGH = 0.95


@dataclasses.dataclass(frozen=True)
class Trial:
    """One size that was compiled.

    Attributes:
      structures: on a chip.
      bytes: of memory that the step takes there, as far as the compiler says.
      fits: whether it compiled.
    """

    structures: int
    bytes: int
    fits: bool


@dataclasses.dataclass(frozen=True)
class LargestBatch:
    """What was found.

    Attributes:
      structures: on a chip in the largest step that compiled; 0 if none did.
      estimate: where the last line meets the capacity; None if two sizes never were compiled.
      trials: all that was compiled, in order.
    """

    structures: int
    estimate: int | None
    trials: tuple[Trial, ...]


def find_largest_batch(
    attempt: Callable[[int], Compiled | TooLarge], first: Trial, available: float
) -> LargestBatch:
    """Looks for the largest number of structures on a chip.

    Memory grows linearly with the batch once arrays are too large for the memory beside the
    processor. A line through the two largest sizes so far says where it meets the capacity, and
    that is compiled; where it does not fit, the compiler says how much it would take, and the next
    line goes through that.

    Args:
      attempt: compiles a step with so many structures on a chip.
      first: what is known already.
      available: bytes.
    """
    trials = [first]
    estimate = None
    for _ in range(_MOST_TRIES):
        wanted = _where_full(trials, available)
        estimate = wanted if len(trials) > 1 else None
        size = min(wanted, _MOST_GROWTH * max(trial.structures for trial in trials))
        fitting = max((trial.structures for trial in trials if trial.fits), default=0)
        known = size < 1 or size in {trial.structures for trial in trials}
        if known or (len(trials) > 1 and fitting >= _CLOSE_ENOUGH * wanted):
            break
        trials.append(_try(attempt, size))
    largest = max((trial.structures for trial in trials if trial.fits), default=0)
    return LargestBatch(largest, estimate, tuple(trials))


def _where_full(trials: list[Trial], available: float) -> int:
    """Where the line through the two largest sizes, or the origin and the only one, is full."""
    origin = Trial(0, 0, fits=True)
    low, high = sorted([origin, *trials], key=lambda trial: trial.structures)[-2:]
    slope = max(high.bytes - low.bytes, 1) / (high.structures - low.structures)
    return math.floor(low.structures + (_SHARE * available - low.bytes) / slope)


def _try(attempt: Callable[[int], Compiled | TooLarge], structures: int) -> Trial:
    found = attempt(structures)
    if isinstance(found, TooLarge):
        return Trial(structures, found.needed, fits=False)
    return Trial(structures, found.memory.total, fits=True)

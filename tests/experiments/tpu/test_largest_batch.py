from __future__ import annotations

import pytest

from experiments.tpu.compiling import Compiled, Memory, TooLarge, read_exhaustion
from experiments.tpu.largest_batch import Trial, find_largest_batch

AVAILABLE = 10_000


def chip(fixed, each):
    """A step whose memory is a line above sixteen structures, and half of it below."""
    tried = []

    def attempt(structures):
        tried.append(structures)
        total = fixed + each * structures // (2 if structures < 16 else 1)
        if total > AVAILABLE:
            return TooLarge(total, AVAILABLE, seconds=0.0)
        return Compiled(Memory(0, 0, 0, total, 0), "", seconds=0.0, processor_seconds=0.0)

    return attempt, tried


@pytest.mark.parametrize(("fixed", "each"), [(500, 10), (0, 100), (4000, 3), (100, 1000)])
def test_the_largest_batch_is_found_and_was_compiled(fixed, each):
    attempt, tried = chip(fixed, each)
    first = Trial(1, attempt(1).memory.total, fits=True)
    largest = find_largest_batch(attempt, first, AVAILABLE)
    best = max(n for n in range(1, 10_000) if not isinstance(chip(fixed, each)[0](n), TooLarge))
    assert 0.85 * best <= largest.structures <= best
    assert Trial(largest.structures, attempt(largest.structures).memory.total, True) in (
        largest.trials
    )
    assert len(largest.trials) <= 5
    assert all(later <= 16 * max(tried[: place + 1]) for place, later in enumerate(tried[1:]))


def test_a_first_size_that_does_not_fit_leads_to_a_smaller_one():
    attempt, _ = chip(0, 100)
    largest = find_largest_batch(attempt, Trial(400, 40_000, fits=False), AVAILABLE)
    assert 85 <= largest.structures <= 100


def test_nothing_fits():
    attempt, _ = chip(20_000, 1)
    largest = find_largest_batch(attempt, Trial(1, 20_001, fits=False), AVAILABLE)
    assert largest.structures == 0


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (
            "RESOURCE_EXHAUSTED: Ran out of memory in memory space hbm. Used 27.50G of 15.75G hbm.",
            (int(27.5 * 2**30), int(15.75 * 2**30)),
        ),
        (
            "RESOURCE_EXHAUSTED: Allocation (size=64424509440) would exceed memory "
            "(size=17179869184) :: %s0 = inlined_call_operand.hbm",
            (64424509440, 17179869184),
        ),
        ("INTERNAL: something else", None),
        ("RESOURCE_EXHAUSTED: of patience", None),
    ],
)
def test_what_the_compiler_says_about_memory_is_read(message, expected):
    assert read_exhaustion(message) == expected

"""Small programs in the form that XLA gives for TPUs."""

from __future__ import annotations

import pathlib

# A loop of five that multiplies a slice of a stack with a matrix and keeps the results, after a
# copy of the matrix into the memory beside the processor; then a sum over eight chips.
LOOP = (pathlib.Path(__file__).parent / "loop.hlo.txt").read_text(encoding="utf-8")


def entry(*lines: str) -> str:
    """A program of a few lines; the last one is what it gives."""
    *first, last = lines
    body = "\n".join([*(f"  {line}" for line in first), f"  ROOT {last}"])
    return f"HloModule m\n\nENTRY %main () -> f32[] {{\n{body}\n}}\n"

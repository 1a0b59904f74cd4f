"""Lists of irreducible representations and the layout of rows made of them (SPEC §1.3).

A row of features is the concatenation of segments; a segment of `multiplicity` copies of degree `l`
has the layout `[multiplicity, 2l+1]`, the second index fastest.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Segment(NamedTuple):
    """`multiplicity` copies of the irrep of degree `degree` and parity `parity` (+1 or -1)."""

    multiplicity: int
    degree: int
    parity: int

    @property
    def irrep(self) -> tuple[int, int]:
        """Degree and parity."""
        return self.degree, self.parity

    @property
    def dimension(self) -> int:
        """Number of components of one copy, `2l+1`."""
        return 2 * self.degree + 1

    @property
    def size(self) -> int:
        """Number of entries of a row that the segment takes."""
        return self.multiplicity * self.dimension

    @property
    def is_scalar(self) -> bool:
        """Whether it is `0e`: invariant under rotations and inversion."""
        return self.degree == 0 and self.parity == 1


Irreps = tuple[Segment, ...]


@functools.cache
def parse(text: str) -> Irreps:
    """Read a list such as `"8x0e+4x1o"`.

    Raises:
      ValueError: a term is not of the form `<multiplicity>x<degree><e|o>`.
    """
    segments = []
    for term in text.replace(" ", "").split("+"):
        match = re.fullmatch(r"(\d+)x(\d+)([eo])", term)
        if match is None:
            raise ValueError(f"irreps {text!r}: {term!r} is not like '8x1e'")
        segments.append(
            Segment(int(match[1]), int(match[2]), 1 if match[3] == "e" else -1),
        )
    return tuple(segments)


def row_length(irreps: Irreps) -> int:
    """Number of entries of one row."""
    return sum(segment.size for segment in irreps)


def copies(irreps: Irreps) -> int:
    """Number of irrep copies, all degrees together."""
    return sum(segment.multiplicity for segment in irreps)


def scalar_copies(irreps: Irreps) -> int:
    """Number of `0e` copies."""
    return sum(segment.multiplicity for segment in irreps if segment.is_scalar)


def simplify(irreps: Irreps) -> Irreps:
    """Merge neighboring segments of equal irrep; the layout of a row stays the same."""
    merged: list[Segment] = []
    for segment in irreps:
        if merged and merged[-1].irrep == segment.irrep:
            last = merged.pop()
            segment = segment._replace(multiplicity=last.multiplicity + segment.multiplicity)
        merged.append(segment)
    return tuple(merged)


def sort_even_first(irreps: Irreps) -> tuple[Irreps, list[int]]:
    """Stable sort by degree, even parity before odd.

    Returns:
      The sorted list, and for each old position the new one.
    """
    return _sort(irreps, lambda segment: (segment.degree, -segment.parity))


def sort_odd_first(irreps: Irreps) -> tuple[Irreps, list[int]]:
    """As `sort_even_first`, odd before even: used in dot-product attention only (SPEC §6.2)."""
    return _sort(irreps, lambda segment: (segment.degree, segment.parity))


def _sort(irreps: Irreps, key) -> tuple[Irreps, list[int]]:
    order = sorted(range(len(irreps)), key=lambda position: key(irreps[position]))
    new_position = [0] * len(irreps)
    for new, old in enumerate(order):
        new_position[old] = new
    return tuple(irreps[old] for old in order), new_position


def split(rows: np.ndarray, irreps: Irreps) -> list[np.ndarray]:
    """Cut `[..., row]` into one `[..., multiplicity, 2l+1]` per segment."""
    if rows.shape[-1] != row_length(irreps):
        raise ValueError(f"rows of {rows.shape[-1]} entries do not fit irreps {irreps}")
    parts, start = [], 0
    for segment in irreps:
        part = rows[..., start : start + segment.size]
        parts.append(part.reshape(*rows.shape[:-1], segment.multiplicity, segment.dimension))
        start += segment.size
    return parts


def join(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Inverse of `split`."""
    return np.concatenate([part.reshape(*part.shape[:-2], -1) for part in parts], axis=-1)

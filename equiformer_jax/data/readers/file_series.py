"""Records that are spread over a series of files, and how such files follow one another."""

from __future__ import annotations

import bisect
import itertools
import pathlib
import re
from collections.abc import Sequence


class FileSeries:
    """Which record of which file is record `index` of all of them.

    Attributes:
      files: in the order of their records.
    """

    def __init__(self, files: Sequence[pathlib.Path], counts: Sequence[int]) -> None:
        """Counts through.

        Args:
          files: at least one.
          counts: how many records each has.
        """
        self.files = tuple(files)
        self._ends = list(itertools.accumulate(counts))

    def __len__(self) -> int:
        return self._ends[-1]

    def place(self, index: int) -> tuple[pathlib.Path, int]:
        """The file of record `index`, from 0 to `len - 1`, and its number within, from 0."""
        position = bisect.bisect_right(self._ends, index)
        before = self._ends[position - 1] if position else 0
        return self.files[position], index - before


def natural_order(path: pathlib.Path) -> tuple[list[int | str], str]:
    """A key to sort files by, in which numbers are numbers: `data.2.lmdb` before `data.10.lmdb`."""
    parts = re.split(r"(\d+)", path.name)
    return [int(part) if part.isdecimal() else part for part in parts], path.name

"""What a run writes about itself: `metrics.jsonl` for programs, one line per epoch for people."""

from __future__ import annotations

import json
import math
import os
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

import jax

from equiformer_jax.training.errors import WorkdirError
from equiformer_jax.training.objectives import Mean

FILE_NAME = "metrics.jsonl"
Record = dict[str, Any]


class MetricsFile:
    """`metrics.jsonl` of a workdir: one JSON object in each line.

    Every record has a `kind`, `epoch` for a whole epoch or `steps` for a part of one, its `epoch`
    counted from 1, and `step`, the number of steps done.

    Attributes:
      path: the file.
    """

    def __init__(self, workdir: str | os.PathLike[str], steps_done: int = 0) -> None:
        """Opens the file to go on after `steps_done` steps.

        Later records come from a run that was killed after its last checkpoint and are dropped:
        they will be written again.

        Args:
          workdir: directory of the run.
          steps_done: steps of the checkpoint with which the run goes on.
        """
        self.path = pathlib.Path(workdir) / FILE_NAME
        kept = [record for record in read_metrics(workdir) if record["step"] <= steps_done]
        temporary = self.path.with_suffix(".tmp")
        temporary.write_text("".join(map(_line, kept)), encoding="utf-8")
        temporary.replace(self.path)

    def write(self, record: Mapping[str, Any]) -> None:
        """Appends one record.

        Raises:
          WorkdirError: it cannot be written, as on a full disk; names the file.
        """
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(_line(record))
        except OSError as error:
            raise WorkdirError(f"cannot write {self.path}: {error.strerror}") from error


def _line(record: Mapping[str, Any]) -> str:
    # JSON has no word for a number that is not finite.
    finite = {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in record.items()
    }
    return json.dumps(finite, allow_nan=False) + "\n"


def read_metrics(workdir: str | os.PathLike[str]) -> list[Record]:
    """Reads the records of a workdir; none where there is no file. What is null there is NaN.

    A last line without its end, left by a killed run, is dropped.

    Raises:
      ValueError: another line is not JSON; names the file and the line.
    """
    path = pathlib.Path(workdir) / FILE_NAME
    if not path.exists():
        return []
    records: list[Record] = []
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    for number, line in enumerate(lines, start=1):
        if not line.endswith("\n"):
            break
        try:
            record = json.loads(line)
            records.append({k: math.nan if v is None else v for k, v in record.items()})
        except json.JSONDecodeError as error:
            raise ValueError(f"{path}, line {number}: expected a JSON object, {error}") from error
    return records


def average(means: Iterable[Mapping[str, Mean]]) -> dict[str, float]:
    """Averages the sums and counts of many steps; this waits for the devices.

    Args:
      means: for each step, sums and counts by name.

    Returns:
      Sum over sum of counts for each name, in float64.
    """
    totals: dict[str, tuple[float, float]] = {}
    for step in jax.device_get(list(means)):
        for name, mean in step.items():
            total, count = totals.get(name, (0.0, 0.0))
            totals[name] = (total + float(mean.total), count + float(mean.count))
    return {name: total / count if count else math.nan for name, (total, count) in totals.items()}


def format_duration(seconds: float) -> str:
    """`75.2` as `1:15`, `4000` as `1:06:40`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"

"""Follows time and memory of steps along the number of atoms, edges, channels, degrees or devices.

    python -m experiments.benchmark_growth --along=atoms --along=edges \
        --output=growth.json --plot=growth.png

Every point is a run of `experiments.benchmark` in a process of its own, so that its peak memory is
its own, too. Times are processor times of all cores over that of a matrix product timed in turn,
which other work on the machine changes little; on virtual devices that share the cores of a
machine they show what it costs to divide the work, not how much faster it gets. What `--output`
holds already is not measured again.
"""

from __future__ import annotations

import json
import pathlib
from collections.abc import Sequence

from absl import app, flags

from experiments.benchmarks.growth import AXES
from experiments.benchmarks.growth_points import Row, measure
from experiments.benchmarks.growth_report import draw, to_table
from experiments.common import program, run

_ALONG = flags.DEFINE_multi_enum("along", sorted(AXES), sorted(AXES), "What grows.")
_STEPS = flags.DEFINE_integer("steps", 3, "Timed steps of each point.", 1)
_OUTPUT = flags.DEFINE_string("output", None, "JSON file to write, and to go on from.")
_PLOT = flags.DEFINE_string("plot", None, "PNG file to draw.")


@program
def main(arguments: Sequence[str]) -> None:
    """Measures what is not known yet, prints tables, writes and draws."""
    if len(arguments) > 1:
        raise app.UsageError(f"unknown arguments {arguments[1:]}")
    results = _known(_OUTPUT.value)
    for name in dict.fromkeys(_ALONG.value):
        rows = results.setdefault(name, [])
        for point in AXES[name].points[len(rows) :]:
            rows.append(measure(point, _STEPS.value))
            _write(results, _OUTPUT.value)
        print(to_table(AXES[name], rows), flush=True)
    if _PLOT.value:
        draw({name: results[name] for name in dict.fromkeys(_ALONG.value)}, _PLOT.value)


def _known(path: str | None) -> dict[str, list[Row]]:
    if path is None or not pathlib.Path(path).exists():
        return {}
    known: dict[str, list[Row]] = json.loads(pathlib.Path(path).read_text("utf-8"))
    return known


def _write(results: dict[str, list[Row]], path: str | None) -> None:
    if path is not None:
        pathlib.Path(path).write_text(json.dumps(results, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    run(main)

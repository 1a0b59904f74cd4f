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
import math
import os
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from absl import app, flags
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.benchmarks.growth import AXES, Axis, Point
from experiments.common import program, run

_ALONG = flags.DEFINE_multi_enum("along", sorted(AXES), sorted(AXES), "What grows.")
_STEPS = flags.DEFINE_integer("steps", 3, "Timed steps of each point.", 1)
_OUTPUT = flags.DEFINE_string("output", None, "JSON file to write, and to go on from.")
_PLOT = flags.DEFINE_string("plot", None, "PNG file to draw.")

_TIME, _MEMORY = "products", "temporary_mib"
_DRAWN = {_TIME: "matrix products of processor time", _MEMORY: "temporaries (MiB)"}

Row = dict[str, Any]


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


def measure(point: Point, steps: int) -> Row:
    """Runs one point in a process of its own.

    Raises:
      RuntimeError: the process failed; with what it said.
    """
    environment = os.environ | {
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={point.devices}"
    }
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "result.json")
        command = [sys.executable, "-m", "experiments.benchmark", f"--case={point.case}"]
        command += [f"--steps={steps}", f"--output={path}"]
        finished = subprocess.run(command, env=environment, capture_output=True, text=True)
        if finished.returncode:
            raise RuntimeError(f"{point.case} failed:\n{finished.stderr}")
        result = json.loads(path.read_text("utf-8"))
    return read_row(point, result)


def read_row(point: Point, result: dict[str, Any]) -> Row:
    """What is kept of a result of `experiments.benchmark`."""
    numbers = result[point.case]
    return {
        "size": numbers["edges"] if point.size is None else point.size,
        "edges": numbers["edges"],
        _TIME: numbers["processor_step_over_matrix_product"],
        "matrix_gflop": numbers["matrix_gflop"],
        _MEMORY: point.devices * numbers["temporary_mib_per_device"],
        "process_mib": result["machine"]["peak_process_mib"],
        "sent_mb_per_device": numbers.get("sent_bytes_per_device", math.nan) / 1e6,
        "compile_seconds_cold": numbers["compile_seconds_cold"],
    }


def exponents(rows: Sequence[Row], quantity: str) -> list[float]:
    """The power of the size with which a quantity grows, from each row to the next."""
    sizes, values = (np.log([row[name] for row in rows]) for name in ("size", quantity))
    return list(np.diff(values) / np.diff(sizes))


def to_table(axis: Axis, rows: Sequence[Row]) -> str:
    """A table in Markdown, with the power of the size between rows."""
    columns = (axis.label, "edges", "GFLOP", "products", "power", "MiB", "power", "process (MiB)")
    lines = [axis.title, "", _line(columns), _line(["---"] * len(columns))]
    powers = [["", *(f"{p:.2f}" for p in exponents(rows, q))] for q in (_TIME, _MEMORY)]
    for index, row in enumerate(rows):
        cells = [f"{row['size']:,}", f"{row['edges']:,}", f"{row['matrix_gflop']:.1f}"]
        cells += [f"{row[_TIME]:.2f}", powers[0][index], f"{row[_MEMORY]:.0f}", powers[1][index]]
        lines.append(_line([*cells, f"{row['process_mib']:.0f}"]))
    return "\n".join([*lines, ""])


def draw(results: dict[str, list[Row]], path: str) -> None:
    """Draws time and memory over the size, with a line of slope one for the eye.

    Args:
      results: rows by the name of their axis.
      path: PNG file to write.
    """
    with matplotlib.rc_context({"font.size": 9, "axes.grid": True, "grid.color": "#e4e6ea"}):
        figure = Figure(figsize=(3.6 * len(results), 5.6), layout="constrained")
        panels = figure.subplots(2, len(results), squeeze=False)
        for column, (name, rows) in enumerate(results.items()):
            for panel, quantity in zip(panels[:, column], _DRAWN, strict=True):
                _draw_panel(panel, rows, quantity)
                panel.set_xlabel(AXES[name].label)
            panels[0, column].set_title(_wrapped(AXES[name].title), fontsize=9)
        for panel, label in zip(panels[:, 0], _DRAWN.values(), strict=True):
            panel.set_ylabel(label)
        figure.savefig(path, dpi=140)


def _draw_panel(panel: Axes, rows: Sequence[Row], quantity: str) -> None:
    sizes, values = (np.array([row[name] for row in rows]) for name in ("size", quantity))
    panel.loglog(sizes, values, "o-", color="#2c5f8a", markersize=4)
    panel.loglog(sizes, values[-1] * sizes / sizes[-1], ":", color="#8a8f98", label="proportional")
    panel.set_xticks(sizes, [f"{size:,}" for size in sizes], rotation=45)
    panel.minorticks_off()
    panel.legend(frameon=False)


def _wrapped(title: str) -> str:
    return title.replace(", ", ",\n")


def _known(path: str | None) -> dict[str, list[Row]]:
    if path is None or not pathlib.Path(path).exists():
        return {}
    known: dict[str, list[Row]] = json.loads(pathlib.Path(path).read_text("utf-8"))
    return known


def _write(results: dict[str, list[Row]], path: str | None) -> None:
    if path is not None:
        pathlib.Path(path).write_text(json.dumps(results, indent=2) + "\n", "utf-8")


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    run(main)

"""Tables and pictures of how costs grow."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from equiformer_jax.inference import markdown
from experiments.benchmarks.growth import AXES, Axis
from experiments.benchmarks.growth_points import MEMORY, TIME, Row

_DRAWN = {TIME: "matrix products of processor time", MEMORY: "temporaries (MiB)"}


def exponents(rows: Sequence[Row], quantity: str) -> list[float]:
    """The power of the size with which a quantity grows, from each row to the next."""
    sizes, values = (np.log([row[name] for row in rows]) for name in ("size", quantity))
    return list(np.diff(values) / np.diff(sizes))


def to_table(axis: Axis, rows: Sequence[Row]) -> str:
    """A table in Markdown, with the power of the size between rows."""
    edges = [] if axis.label == "edges" else ["edges"]
    columns = (axis.label, *edges, "GFLOP", "products", "power", "MiB", "power", "process (MiB)")
    lines = [axis.title, "", markdown.row(columns), markdown.row(["---"] * len(columns))]
    powers = [["", *(f"{p:.2f}" for p in exponents(rows, q))] for q in (TIME, MEMORY)]
    for index, row in enumerate(rows):
        cells = [f"{row[name]:,}" for name in ("size", *edges)] + [f"{row['matrix_gflop']:.1f}"]
        cells += [f"{row[TIME]:.2f}", powers[0][index], f"{row[MEMORY]:.0f}", powers[1][index]]
        lines.append(markdown.row([*cells, f"{row['process_mib']:.0f}"]))
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

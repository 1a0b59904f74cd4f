"""Pictures of a run: how it learned, and how well it predicts. Drawn without a display."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogFormatter, MaxNLocator

from equiformer_jax.inference.quantities import label_error_unit, readable
from equiformer_jax.training.evaluation import Evaluation
from equiformer_jax.training.metric_names import (
    Quantity,
    quantity_of_metric,
    readable_unit,
    title_of_label,
)

LEARNING_CURVE = "learning_curve.png"
PARITY = "parity.png"
MAX_PANELS = 3

_BLUE, _ORANGE, _GRAY, _GREEN = "#2c5f8a", "#d9822b", "#8a8f98", "#3f8f5f"
# What the errors of a record are of, how that is called, and how it is drawn.
_CURVES: Any = {
    "train": ("train", {"color": _GRAY}),
    "validation": ("validation", {"color": _BLUE}),
    "ema_validation": ("validation, averaged weights", {"color": _BLUE, "linestyle": (0, (4, 2))}),
    "test": ("test", {"color": _GREEN}),
}
_DOTS: Any = {"linestyle": "none", "marker": "o", "markersize": 4}
_STYLE: Any = {
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#44484f",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e4e6ea",
    "grid.linewidth": 0.8,
    "legend.frameon": False,
    "savefig.dpi": 160,
}
_MILLI = 1000.0
_MOST_DOTS = 3000  # more points than these are drawn as cells with their number
_MOST_EPOCHS_AS_DOTS = 40  # of the test split, which most runs measure from time to time only


class _PlainLogFormatter(LogFormatter):
    """Labels the ticks that `LogFormatter` labels, without exponents."""

    def __call__(self, value: float, position: int | None = None) -> str:
        return _tick_label(value, 0) if super().__call__(value, position) else ""


def parity_name(split: str) -> str:
    """Name of the parity plot of a split."""
    return PARITY if split == "test" else f"parity_{split}.png"


def plot_learning_curve(
    records: Sequence[Mapping[str, Any]], path: str | os.PathLike[str]
) -> pathlib.Path:
    """Draws errors over epochs, of every split that has them, and the learning rate below.

    Every mean absolute error of the records gets a panel, going by their names; of more than
    `MAX_PANELS` the first ones.

    Args:
      records: records of `metrics.jsonl`; those of whole epochs are drawn.
      path: PNG file to write.

    Returns:
      The path.

    Raises:
      ValueError: there is no record of a whole epoch.
    """
    epochs = [record for record in records if record["kind"] == "epoch"]
    if not epochs:
        raise ValueError("no epoch has been recorded; there is no learning curve to draw")
    panels = _panels(epochs)
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(4.6 * len(panels), 4.6), layout="constrained")
        axes = figure.subplots(2, len(panels), sharex=True, squeeze=False, height_ratios=[3, 1])
        for column, (metric, quantity) in enumerate(panels.items()):
            _draw_errors(axes[0, column], epochs, metric, quantity)
            _draw_learning_rate(axes[1, column], epochs)
        figure.savefig(path)
    return pathlib.Path(path)


def _panels(epochs: Sequence[Mapping[str, Any]]) -> dict[str, Quantity]:
    """What is drawn, by the names of the metrics, in the order of the records."""
    panels: dict[str, Quantity] = {}
    for name in epochs[-1]:
        split, _, metric = name.partition("_")
        quantity = quantity_of_metric(metric)
        if split in ("train", "validation") and quantity is not None:
            panels[metric] = quantity
    if not panels:
        raise ValueError("records: expected a mean absolute error, such as train_energy_mae_mev")
    return dict(list(panels.items())[:MAX_PANELS])


def _draw_errors(
    axes: Axes, epochs: Sequence[Mapping[str, Any]], metric: str, quantity: Quantity
) -> None:
    title = quantity.title
    for split, (label, style) in _CURVES.items():
        points = [(r["epoch"], r[f"{split}_{metric}"]) for r in epochs if f"{split}_{metric}" in r]
        if points:
            few = len(points) <= (_MOST_EPOCHS_AS_DOTS if split == "test" else 1)
            look = style | (_DOTS if few else {})
            axes.plot(*zip(*points, strict=True), linewidth=1.8, label=label, **look)
        if points and split in ("train", "validation"):
            title = f"{quantity.title}: {label} MAE {readable(points[-1][1])} {quantity.unit}"
    axes.set_title(title)
    axes.set_ylabel(f"mean absolute error, {quantity.unit}")
    axes.set_yscale("log")
    # Plain numbers; between the powers of ten only where there is room for them.
    axes.yaxis.set_major_formatter(FuncFormatter(_tick_label))
    axes.yaxis.set_minor_formatter(_PlainLogFormatter(minor_thresholds=(1.5, 0.6)))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend()


def _draw_learning_rate(axes: Axes, epochs: Sequence[Mapping[str, Any]]) -> None:
    numbers = [record["epoch"] for record in epochs]
    rates = [record["learning_rate"] for record in epochs]
    axes.step(numbers, rates, color=_ORANGE, where="mid", **(_DOTS if len(epochs) == 1 else {}))
    if len(epochs) == 1:
        axes.set_xlim(numbers[0] - 1, numbers[0] + 1)
    axes.set_ylabel("rate")
    axes.ticklabel_format(axis="y", style="sci", scilimits=(0, 0), useMathText=True)
    axes.set_xlabel("epoch")


def plot_parity(evaluation: Evaluation, path: str | os.PathLike[str]) -> pathlib.Path:
    """Draws predicted against reference labels and forces, their errors in the titles.

    Energies are shown relative to the mean reference energy of the split, other labels as they are.

    Args:
      evaluation: predictions and references of a split.
      path: PNG file to write.

    Returns:
      The path.
    """
    predicted, reference = evaluation.predicted_forces, evaluation.reference_forces
    has_forces = predicted is not None and reference is not None
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(9.8 if has_forces else 5.2, 4.8), layout="constrained")
        axes = figure.subplots(1, 1 + has_forces, squeeze=False)[0]
        _draw_labels(axes[0], evaluation)
        if predicted is not None and reference is not None:
            forces = reference.ravel(), predicted.ravel()
            _draw_cells(axes[1], *forces, "components")
            error = f"{readable(_MILLI * _mean_error(*forces))} meV/Å"
            _finish_parity(axes[1], *forces, f"Forces: MAE {error}", "{}, eV/Å")
        figure.suptitle(
            f"{len(evaluation.reference_energies):,} structures, {evaluation.split} split"
        )
        figure.savefig(path)
    return pathlib.Path(path)


def _draw_labels(axes: Axes, evaluation: Evaluation) -> None:
    is_energy = evaluation.label == "energy"
    offset = evaluation.reference_energies.mean() if is_energy else 0.0
    labels = evaluation.reference_energies - offset, evaluation.predicted_energies - offset
    if len(labels[0]) > _MOST_DOTS:
        _draw_cells(axes, *labels, "structures")
    else:
        axes.scatter(*labels, s=14, color=_BLUE, alpha=0.55, linewidths=0)
    factor, small_unit = label_error_unit(evaluation)
    error = f"{readable(factor * _mean_error(*labels))} {small_unit}"
    title = f"{title_of_label(evaluation.label)}: MAE {error}"
    unit = readable_unit(evaluation.energy_unit)
    _finish_parity(axes, *labels, title, f"{{}} − mean, {unit}" if is_energy else f"{{}}, {unit}")


def _draw_cells(axes: Axes, reference: np.ndarray, predicted: np.ndarray, counted: str) -> None:
    cells = axes.hexbin(
        reference,
        predicted,
        gridsize=70,
        norm=LogNorm(),
        mincnt=1,
        cmap="viridis",
        linewidths=0.1,
    )
    bar = axes.figure.colorbar(cells, ax=axes, label=f"{counted} in a cell", shrink=0.8)
    bar.formatter = FuncFormatter(_tick_label)
    bar.minorticks_off()


def _finish_parity(
    axes: Axes, reference: np.ndarray, predicted: np.ndarray, title: str, label: str
) -> None:
    low = min(reference.min(), predicted.min())
    high = max(reference.max(), predicted.max())
    margin = 0.04 * (high - low) or 1.0
    limits = low - margin, high + margin
    axes.plot(limits, limits, color="#44484f", linewidth=0.9, linestyle=(0, (4, 3)))
    axes.set(xlim=limits, ylim=limits, aspect="equal", title=title)
    axes.set_xlabel(label.format("reference"))
    axes.set_ylabel(label.format("prediction"))


def _mean_error(reference: np.ndarray, predicted: np.ndarray) -> float:
    return float(np.mean(np.abs(predicted - reference)))


def _tick_label(value: float, _: int) -> str:
    return f"{value:g}"

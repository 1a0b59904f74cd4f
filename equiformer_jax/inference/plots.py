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

from equiformer_jax.training.evaluation import Evaluation
from equiformer_jax.training.metrics import FILE_NAME as METRICS_FILE
from equiformer_jax.training.metrics import read_metrics

LEARNING_CURVE = "learning_curve.png"
PARITY = "parity.png"

_BLUE, _ORANGE, _GRAY = "#2c5f8a", "#d9822b", "#8a8f98"
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


def plot_run(workdir: str | os.PathLike[str], evaluation: Evaluation) -> list[pathlib.Path]:
    """Draws the learning curve of a run and the parity of an evaluation into its workdir.

    The parity plot of the test split is `parity.png`, that of another split `parity_<split>.png`.

    Args:
      workdir: directory of the run.
      evaluation: predictions and references of one of its splits.

    Returns:
      The files of the run that a person wants to open, these two among them.
    """
    workdir = pathlib.Path(workdir).expanduser().resolve()
    parity = PARITY if evaluation.split == "test" else f"parity_{evaluation.split}.png"
    return [
        plot_learning_curve(read_metrics(workdir), workdir / LEARNING_CURVE),
        plot_parity(evaluation, workdir / parity),
        workdir / METRICS_FILE,
        workdir / evaluation.summary_name,
    ]


def plot_learning_curve(
    records: Sequence[Mapping[str, Any]], path: str | os.PathLike[str]
) -> pathlib.Path:
    """Draws errors over epochs, training and validation, and the learning rate below.

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
    panels = [("energy_mae_mev", "Energy", "meV")]
    if "validation_force_mae_mev_per_angstrom" in epochs[0]:
        panels.append(("force_mae_mev_per_angstrom", "Forces", "meV/Å"))
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(4.6 * len(panels), 4.6), layout="constrained")
        axes = figure.subplots(2, len(panels), sharex=True, squeeze=False, height_ratios=[3, 1])
        for column, (name, title, unit) in enumerate(panels):
            _draw_errors(axes[0, column], epochs, name, title, unit)
            _draw_learning_rate(axes[1, column], epochs)
        figure.savefig(path)
    return pathlib.Path(path)


def _draw_errors(
    axes: Axes, epochs: Sequence[Mapping[str, Any]], name: str, title: str, unit: str
) -> None:
    numbers = [record["epoch"] for record in epochs]
    marker = "o" if len(epochs) == 1 else None
    for split, color in (("train", _GRAY), ("validation", _BLUE)):
        values = [record[f"{split}_{name}"] for record in epochs]
        axes.plot(numbers, values, color=color, linewidth=1.8, marker=marker, label=split)
    last = epochs[-1][f"validation_{name}"]
    axes.set_title(f"{title}: validation MAE {_readable(last)} {unit}")
    axes.set_ylabel(f"mean absolute error, {unit}")
    axes.set_yscale("log")
    # Plain numbers; between the powers of ten only where there is room for them.
    axes.yaxis.set_major_formatter(FuncFormatter(_tick_label))
    axes.yaxis.set_minor_formatter(LogFormatter(minor_thresholds=(1.5, 0.6)))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend()


def _draw_learning_rate(axes: Axes, epochs: Sequence[Mapping[str, Any]]) -> None:
    numbers = [record["epoch"] for record in epochs]
    axes.step(numbers, [record["learning_rate"] for record in epochs], color=_ORANGE, where="mid")
    axes.set_ylabel("rate")
    axes.ticklabel_format(axis="y", style="sci", scilimits=(0, 0), useMathText=True)
    axes.set_xlabel("epoch")


def plot_parity(evaluation: Evaluation, path: str | os.PathLike[str]) -> pathlib.Path:
    """Draws predicted against reference energies and forces, their errors in the titles.

    Energies are shown relative to the mean reference energy of the split.

    Args:
      evaluation: predictions and references of a split, eV and eV/Å.
      path: PNG file to write.

    Returns:
      The path.
    """
    predicted, reference = evaluation.predicted_forces, evaluation.reference_forces
    has_forces = predicted is not None and reference is not None
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(9.8 if has_forces else 5.2, 4.8), layout="constrained")
        axes = figure.subplots(1, 1 + has_forces, squeeze=False)[0]
        mean = evaluation.reference_energies.mean()
        energies = evaluation.reference_energies - mean, evaluation.predicted_energies - mean
        axes[0].scatter(*energies, s=14, color=_BLUE, alpha=0.55, linewidths=0)
        _finish_parity(axes[0], *energies, "Energy", "eV", "meV")
        axes[0].set_xlabel("reference − mean, eV")
        axes[0].set_ylabel("prediction − mean, eV")
        if predicted is not None and reference is not None:
            forces = reference.ravel(), predicted.ravel()
            cells = axes[1].hexbin(
                *forces, gridsize=70, norm=LogNorm(), mincnt=1, cmap="viridis", linewidths=0.1
            )
            _finish_parity(axes[1], *forces, "Forces", "eV/Å", "meV/Å")
            bar = figure.colorbar(cells, ax=axes[1], label="components in a cell", shrink=0.8)
            bar.formatter = FuncFormatter(_tick_label)
            bar.minorticks_off()
        figure.suptitle(
            f"{len(evaluation.reference_energies):,} structures, {evaluation.split} split"
        )
        figure.savefig(path)
    return pathlib.Path(path)


def _finish_parity(
    axes: Axes,
    reference: np.ndarray,
    predicted: np.ndarray,
    title: str,
    unit: str,
    small_unit: str,
) -> None:
    low = min(reference.min(), predicted.min())
    high = max(reference.max(), predicted.max())
    margin = 0.04 * (high - low) or 1.0
    limits = low - margin, high + margin
    axes.plot(limits, limits, color="#44484f", linewidth=0.9, linestyle=(0, (4, 3)))
    axes.set(xlim=limits, ylim=limits, aspect="equal")
    error = _MILLI * np.mean(np.abs(predicted - reference))
    axes.set_title(f"{title}: MAE {_readable(error)} {small_unit}")
    axes.set_xlabel(f"reference, {unit}")
    axes.set_ylabel(f"prediction, {unit}")


def _readable(value: float) -> str:
    """Three digits or so, never an exponent."""
    decimals = 0 if value >= 100 else 1 if value >= 10 else 2
    return f"{value:,.{decimals}f}"


def _tick_label(value: float, _: int) -> str:
    return f"{value:g}"

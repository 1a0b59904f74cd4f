"""One picture of a data set: what its structures, labels and neighborhoods look like."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from equiformer_jax.data.inspection.facts import SplitFacts

_COLORS = ("#2c5f8a", "#d9822b", "#4f9d69", "#8a5a83")
_BINS = 50
_TICKS = 5  # labels like -4215.2 leave no room for more


def draw_dataset(
    splits: Sequence[SplitFacts], path: str | os.PathLike[str], energy_label: str = "energy (eV)"
) -> pathlib.Path:
    """Draws histograms of energies, forces, sizes and degrees, one line for each split.

    Args:
      splits: the facts of every split.
      path: PNG file to write.
      energy_label: what the label is, with its unit.

    Returns:
      The path.
    """
    panels = {
        "energy": energy_label,
        "force_rms": "root mean square force component (eV/Å)",
        "num_atoms": "atoms in a structure",
        "degree": "mean number of neighbors",
    }
    drawn = {
        title: [_finite(_values(facts, name)) for facts in splits] for name, title in panels.items()
    }
    drawn = {title: values for title, values in drawn.items() if any(map(len, values))}
    figure = Figure(figsize=(4.2 * len(drawn), 3.2), layout="constrained")
    for axes, (title, values) in zip(
        figure.subplots(1, len(drawn), squeeze=False)[0], drawn.items(), strict=True
    ):
        _histogram(axes, [facts.split for facts in splits], values)
        axes.set_xlabel(title)
    figure.savefig(path, dpi=160)
    return pathlib.Path(path)


def _values(facts: SplitFacts, name: str) -> np.ndarray:
    if name == "degree":
        return facts.column("num_edges") / np.maximum(facts.column("num_atoms"), 1)
    return facts.column(name)


def _finite(values: np.ndarray) -> np.ndarray:
    values = np.asarray(values, float)
    return values[np.isfinite(values)]


def _histogram(axes: Axes, names: Sequence[str], values: Sequence[np.ndarray]) -> None:
    """Shares, not counts: splits differ in size by orders of magnitude."""
    together = np.concatenate(values)
    edges = _edges(together)
    for name, color, part in zip(names, _COLORS, values, strict=False):
        if len(part):
            weights = np.full(len(part), 1 / len(part))
            axes.hist(
                part, edges.tolist(), weights=weights, histtype="step", color=color, label=name
            )
    axes.set_ylabel("share of structures")
    axes.spines[["top", "right"]].set_visible(False)
    axes.ticklabel_format(axis="x", useOffset=False)
    axes.locator_params(axis="x", nbins=_TICKS)
    axes.legend(frameon=False)


def _edges(values: np.ndarray) -> np.ndarray:
    """Of at most `_BINS` bins; of whole numbers each bin holds equally many."""
    if (values != np.trunc(values)).any():
        return np.histogram_bin_edges(values, bins=_BINS)
    low, high = values.min(), values.max()
    width = max(np.ceil((high - low + 1) / _BINS), 1.0)
    return np.arange(low - 0.5, high + width, width)

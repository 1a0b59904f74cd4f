"""Errors and predictions of a model over a whole split."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
from collections.abc import Iterable

import jax
import jraph
import numpy as np
from jax.sharding import Mesh

from equiformer_jax.data.pipeline import DeviceBatch
from equiformer_jax.data.statistics import DatasetStatistics
from equiformer_jax.training.metrics import average
from equiformer_jax.training.sharding import place_batch
from equiformer_jax.training.state import Params
from equiformer_jax.training.step import EvaluationStep


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Predictions of a model for one split, beside the references, in the order of the split.

    Attributes:
      split: name of the split.
      metrics: mean absolute errors by name, the unit in the name, and the terms of the loss.
      predicted_energies: `[n]` eV.
      reference_energies: `[n]` eV.
      predicted_forces: `[n_1 + ... + n_n, 3]` eV/Å, structure after structure; `None` without
        forces.
      reference_forces: the same for the references.
    """

    split: str
    metrics: dict[str, float]
    predicted_energies: np.ndarray
    reference_energies: np.ndarray
    predicted_forces: np.ndarray | None
    reference_forces: np.ndarray | None

    @property
    def force_error_relative_to_zero(self) -> float | None:
        """Mean absolute error of the forces over that of predicting zero everywhere."""
        if self.predicted_forces is None or self.reference_forces is None:
            return None
        error = np.mean(np.abs(self.predicted_forces - self.reference_forces))
        return float(error / np.mean(np.abs(self.reference_forces)))

    @property
    def summary_name(self) -> str:
        """Name of the file that `save_summary` writes."""
        return f"{self.split}_metrics.json"

    def summary(self) -> dict[str, float | int | str]:
        """What `save_summary` writes."""
        relative = self.force_error_relative_to_zero
        return {
            "split": self.split,
            "num_structures": len(self.reference_energies),
            **self.metrics,
            **({} if relative is None else {"force_error_relative_to_zero": relative}),
        }

    def save_summary(self, workdir: str | os.PathLike[str]) -> pathlib.Path:
        """Writes `summary` into the workdir and returns the path of the file."""
        path = pathlib.Path(workdir) / self.summary_name
        path.write_text(json.dumps(self.summary(), indent=2) + "\n", encoding="utf-8")
        return path


def evaluate_means(
    step: EvaluationStep, params: Params, batches: Iterable[DeviceBatch], mesh: Mesh
) -> dict[str, float]:
    """Metrics and terms of the loss over all batches, without fetching predictions."""
    return average([step(params, place_batch(batch.graph, mesh))[0] for batch in batches])


def evaluate_split(
    step: EvaluationStep,
    params: Params,
    batches: Iterable[DeviceBatch],
    mesh: Mesh,
    statistics: DatasetStatistics,
    split: str,
) -> Evaluation:
    """Predicts a whole split and compares.

    Args:
      step: from `step.make_evaluation_step`.
      params: parameters of the model.
      batches: every structure exactly once (`pipeline.EvaluationBatches`).
      mesh: the devices that `step` was made for.
      statistics: those of the training split, to go back to eV.
      split: name of the split.
    """
    means, rows = [], []
    for batch in batches:
        mean, predictions = step(params, place_batch(batch.graph, mesh))
        means.append(mean)
        rows += _unpack(batch, jax.device_get(predictions), statistics)
    rows.sort(key=lambda row: row[0])
    _, energies, labels, forces, force_labels = zip(*rows, strict=True)
    has_forces = forces[0] is not None
    return Evaluation(
        split=split,
        metrics=average(means),
        predicted_energies=np.array(energies),
        reference_energies=np.array(labels),
        predicted_forces=np.concatenate(forces) if has_forces else None,
        reference_forces=np.concatenate(force_labels) if has_forces else None,
    )


def _unpack(
    batch: DeviceBatch, predictions: dict[str, np.ndarray], statistics: DatasetStatistics
) -> list[tuple]:
    """Index, energy, its label, forces and theirs of each structure of a batch; eV and Å."""
    scale, shift = statistics.energy_std, statistics.energy_mean
    rows = []
    for device, indices in enumerate(batch.indices):
        graph: jraph.GraphsTuple = jax.tree.map(lambda leaf, d=device: leaf[d], batch.graph)
        ends = np.cumsum(graph.n_node)
        for slot, index in enumerate(indices):
            atoms = slice(ends[slot] - graph.n_node[slot], ends[slot])
            energy = shift + scale * np.float64(predictions["energy"][device, slot])
            label = shift + np.float64(graph.globals["energy"][slot])
            forces = force_labels = None
            if "forces" in predictions:
                forces = scale * predictions["forces"][device, atoms].astype(np.float64)
                force_labels = graph.nodes["forces"][atoms].astype(np.float64)
            rows.append((index, energy, label, forces, force_labels))
    return rows

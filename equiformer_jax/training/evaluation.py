"""Errors and predictions of a model over a whole split."""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Iterable

import jax
import jraph
import numpy as np
from jax.sharding import Mesh

from equiformer_jax.data.graph_store import GraphStore
from equiformer_jax.data.pipeline import DeviceBatch
from equiformer_jax.data.processes import exchange
from equiformer_jax.data.structures import StructureSequence
from equiformer_jax.training.metrics import average
from equiformer_jax.training.sharding import fetch_own_parts, place_batch
from equiformer_jax.training.state import Params
from equiformer_jax.training.step import EvaluationStep
from equiformer_jax.training.workdir import write_json_atomically


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Predictions of a model for one split, beside the references, in the order of the split.

    Attributes:
      split: name of the split.
      metrics: mean absolute errors by name, the unit in the name, and the terms of the loss.
      structures: the structures of the split.
      predicted_energies: `[n]` in `energy_unit`.
      reference_energies: `[n]` in `energy_unit`.
      predicted_forces: `[n_1 + ... + n_n, 3]` eV/Å, structure after structure; `None` without
        forces.
      reference_forces: the same for the references.
      label: what the number of each structure is: `energy`, or the name of a target.
      energy_unit: its unit.
      weights: which weights predicted, such as `the last ones, after 1,200 steps`.
    """

    split: str
    metrics: dict[str, float]
    structures: StructureSequence
    predicted_energies: np.ndarray
    reference_energies: np.ndarray
    predicted_forces: np.ndarray | None = None
    reference_forces: np.ndarray | None = None
    label: str = "energy"
    energy_unit: str = "eV"
    weights: str = "the last ones"

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
            "weights": self.weights,
            "num_structures": len(self.reference_energies),
            **self.metrics,
            **({} if relative is None else {"force_error_relative_to_zero": relative}),
        }

    def save_summary(self, workdir: str | os.PathLike[str]) -> pathlib.Path:
        """Writes `summary` into the workdir and returns the path of the file."""
        path = pathlib.Path(workdir) / self.summary_name
        write_json_atomically(path, self.summary())
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
    *,
    store: GraphStore,
    scale: float,
    structures: StructureSequence,
    split: str,
    label: str = "energy",
    unit: str = "eV",
) -> Evaluation:
    """Predicts a whole split and compares; all processes of a run together, for each of them.

    Args:
      step: from `step.make_evaluation_step`.
      params: parameters of the model.
      batches: every structure exactly once (`pipeline.EvaluationBatches`).
      mesh: the devices that `step` was made for.
      store: the graphs of the split; what was taken off their labels is put back.
      scale: one unit of the network, in the label's unit.
      structures: of the split.
      split: its name.
      label: what the number of each structure is.
      unit: its unit.
    """
    means, found = [], _Found(store.sizes.nodes)
    for batch in batches:
        mean, predictions = step(params, place_batch(batch.graph, mesh))
        means.append(mean)
        found.add(batch, jax.tree.map(fetch_own_parts, predictions))
    found.share()
    forces = store.arrays.get("nodes.forces")
    has_forces = found.forces is not None and forces is not None
    return Evaluation(
        split=split,
        metrics=average(means),
        structures=structures,
        predicted_energies=store.references + scale * found.energies,
        reference_energies=store.references + store.energies(),
        predicted_forces=scale * np.asarray(found.forces) if has_forces else None,
        reference_forces=np.asarray(forces, np.float64) if has_forces else None,
        label=label,
        energy_unit=unit,
    )


class _Found:
    """Predictions in network units, put back into the order of the split."""

    def __init__(self, num_atoms: np.ndarray) -> None:
        self._ends = np.cumsum(num_atoms)
        self.energies = np.full(len(self._ends), np.nan)
        self.forces: np.ndarray | None = None
        self._own: list[np.ndarray] = []

    def add(self, batch: DeviceBatch, predictions: dict[str, np.ndarray]) -> None:
        """Takes the predictions of a batch, each with a leading device axis."""
        self._own += batch.indices
        for device, indices in enumerate(batch.indices):
            graph: jraph.GraphsTuple = jax.tree.map(lambda leaf, d=device: leaf[d], batch.graph)
            self.energies[indices] = predictions["energy"][device, : len(indices)]
            if "forces" in predictions:
                self._add_forces(indices, graph.n_node, predictions["forces"][device])

    def share(self) -> None:
        """Adds what the other processes have found, each for its parts of the batches."""
        own = np.concatenate(self._own)
        forces = None if self.forces is None else self.forces[self._atoms_of(own)]
        for indices, energies, theirs in exchange((own, self.energies[own], forces)):
            self.energies[indices] = energies
            if self.forces is not None and theirs is not None:
                self.forces[self._atoms_of(indices)] = theirs

    def _atoms_of(self, indices: np.ndarray) -> np.ndarray:
        """The rows of the atoms of some structures."""
        firsts = np.concatenate([[0], self._ends[:-1]])[indices]
        rows = [np.arange(*ends) for ends in zip(firsts, self._ends[indices], strict=True)]
        return np.concatenate([np.empty(0, np.int64), *rows])

    def _add_forces(self, indices: np.ndarray, n_node: np.ndarray, forces: np.ndarray) -> None:
        if self.forces is None:
            self.forces = np.full((self._ends[-1], 3), np.nan)
        first = 0
        for index, count in zip(indices, n_node, strict=False):
            end = self._ends[index]
            self.forces[end - count : end] = forces[first : first + count]
            first += count

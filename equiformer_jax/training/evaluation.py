"""Errors and predictions of a model over a whole split."""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Iterable, Mapping

import jax
import numpy as np
from jax.sharding import Mesh

from equiformer_jax.data.graph_store import GraphStore
from equiformer_jax.data.pipeline import DeviceBatch
from equiformer_jax.data.processes import exchange
from equiformer_jax.data.structures import StructureSequence
from equiformer_jax.training.ensemble import SPREAD_PREFIX
from equiformer_jax.training.metrics import average
from equiformer_jax.training.sharding import fetch_own_parts, place_batch
from equiformer_jax.training.state import Params
from equiformer_jax.training.step import EvaluationStep
from equiformer_jax.training.workdir import write_json_atomically

# Outputs of a model that are kept, and whether they have a row for each atom, not each structure.
_PER_ATOM = {
    "energy": False,
    "forces": True,
    "stress": False,
    "displacement": True,
    SPREAD_PREFIX + "energy": False,
    SPREAD_PREFIX + "forces": True,
}


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
      predicted_stress: `[n, 3, 3]` eV/Å³, positive under tension; `None` where none is learned.
      predicted_displacements: `[n_1 + ... + n_n, 3]` to the relaxed positions, in the unit that
        the run has for them (`config.objective.displacement_std`); `None` without such a head.
      spread_energies: `[n]` in `energy_unit`, the standard deviation over the members of an
        ensemble; `None` for a single model.
      spread_forces: the same of the forces, like `predicted_forces`.
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
    predicted_stress: np.ndarray | None = None
    predicted_displacements: np.ndarray | None = None
    spread_energies: np.ndarray | None = None
    spread_forces: np.ndarray | None = None
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
    outputs = found.outputs
    scaled = {name: scale * values for name, values in outputs.items()}
    forces = store.arrays.get("nodes.forces")
    has_forces = "forces" in outputs and forces is not None
    return Evaluation(
        split=split,
        metrics=average(means),
        structures=structures,
        predicted_energies=store.references + scaled["energy"],
        reference_energies=store.references + store.energies(),
        predicted_forces=scaled["forces"] if has_forces else None,
        reference_forces=np.asarray(forces, np.float64) if has_forces else None,
        predicted_stress=scaled.get("stress"),
        predicted_displacements=outputs.get("displacement"),
        spread_energies=scaled.get(SPREAD_PREFIX + "energy"),
        spread_forces=scaled.get(SPREAD_PREFIX + "forces") if has_forces else None,
        label=label,
        energy_unit=unit,
    )


class _Found:
    """Outputs in network units, put back into the order of the split.

    Attributes:
      outputs: float64, those of `_PER_ATOM` that the model gives, by name; NaN until found.
    """

    def __init__(self, num_atoms: np.ndarray) -> None:
        self._ends = np.cumsum(num_atoms)
        self.outputs: dict[str, np.ndarray] = {}
        self._own: list[np.ndarray] = []

    def add(self, batch: DeviceBatch, predictions: Mapping[str, np.ndarray]) -> None:
        """Takes the predictions of a batch, each with a leading device axis."""
        self._own += batch.indices
        for name in _PER_ATOM.keys() & predictions.keys():
            values = predictions[name]
            if name not in self.outputs:
                length = self._ends[-1] if _PER_ATOM[name] else len(self._ends)
                self.outputs[name] = np.full((length, *values.shape[2:]), np.nan)
            for device, indices in enumerate(batch.indices):
                rows = self._rows(name, indices)
                self.outputs[name][rows] = values[device, : len(rows)]  # padding comes last

    def share(self) -> None:
        """Adds what the other processes have found, each for its parts of the batches."""
        own = np.concatenate(self._own)
        found = {name: values[self._rows(name, own)] for name, values in self.outputs.items()}
        for indices, theirs in exchange((own, found)):
            for name, values in theirs.items():
                self.outputs[name][self._rows(name, indices)] = values

    def _rows(self, name: str, indices: np.ndarray) -> np.ndarray:
        """The rows of some structures, or of their atoms one structure after another."""
        if not _PER_ATOM[name]:
            return indices
        firsts = np.concatenate([[0], self._ends[:-1]])[indices]
        rows = [np.arange(*ends) for ends in zip(firsts, self._ends[indices], strict=True)]
        return np.concatenate([np.empty(0, np.int64), *rows])

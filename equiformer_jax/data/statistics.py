"""What a data set looks like in numbers, gathered in one pass and saved with the run.

A run standardizes with the statistics of its training split and keeps them beside its weights, so
that an evaluation years later uses the same numbers.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import pathlib
from collections.abc import Iterable

import jraph
import numpy as np

from equiformer_jax.structure import Structure


@dataclasses.dataclass(frozen=True)
class DatasetStatistics:
    """Numbers of one split of a data set, usually the training split.

    Attributes:
      num_structures: how many structures were seen.
      energy_mean: mean total energy, eV.
      energy_std: unbiased standard deviation of the total energy, eV.
      average_degree: incoming edges per atom.
      average_nodes: atoms per structure.
      force_rms: root mean square of a Cartesian force component, eV/Å; `None` where there are no
        forces.
    """

    num_structures: int
    energy_mean: float
    energy_std: float
    average_degree: float
    average_nodes: float
    force_rms: float | None

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the statistics as JSON."""
        text = json.dumps(dataclasses.asdict(self), indent=2)
        pathlib.Path(path).write_text(text + "\n", encoding="utf-8")

    @classmethod
    def from_dict(cls, values: dict) -> DatasetStatistics:
        """Builds statistics from the mapping that `dataclasses.asdict` gives.

        Raises:
          ValueError: a field is missing or unknown.
        """
        expected = {field.name for field in dataclasses.fields(cls)}
        if set(values) != expected:
            raise ValueError(
                f"statistics have the fields {sorted(values)}; expected {sorted(expected)}"
            )
        return cls(**values)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> DatasetStatistics:
        """Reads what `save` wrote.

        Raises:
          ValueError: the file is not JSON or its fields are others; names the file.
        """
        try:
            return cls.from_dict(json.loads(pathlib.Path(path).read_text(encoding="utf-8")))
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error


class _RunningMoments:
    """Welford's mean and variance: total energies are huge beside their spread."""

    def __init__(self) -> None:
        self.count, self.mean, self.squares = 0, 0.0, 0.0

    def add(self, value: float) -> None:
        self.count += 1
        change = value - self.mean
        self.mean += change / self.count
        self.squares += change * (value - self.mean)

    @property
    def unbiased_std(self) -> float:
        return math.sqrt(self.squares / (self.count - 1))


def compute_statistics(
    structures: Iterable[Structure], graphs: Iterable[jraph.GraphsTuple]
) -> DatasetStatistics:
    """Gathers the statistics of labeled structures in one pass.

    Args:
      structures: structures with energies (eV) and, optionally, forces (eV/Å).
      graphs: the graph of each structure, in the same order.

    Returns:
      Their statistics, accumulated in float64.

    Raises:
      ValueError: a structure has no energy, only some have forces, fewer than two structures, or
        all energies are equal (there is then nothing to standardize with).
    """
    energy, nodes, edges = _RunningMoments(), 0, 0
    force_squares, force_components = 0.0, 0
    for index, (structure, graph) in enumerate(zip(structures, graphs, strict=True)):
        if structure.energy is None:
            raise ValueError(
                f"structure {index} has no energy; training needs one for every structure"
            )
        energy.add(float(structure.energy))
        nodes += int(graph.n_node.sum())
        edges += int(graph.n_edge.sum())
        if structure.forces is not None:
            force_squares += float(np.sum(np.asarray(structure.forces, np.float64) ** 2))
            force_components += int(np.size(structure.forces))
    if energy.count < 2:
        raise ValueError(f"{energy.count} structures; the standard deviation needs at least two")
    if energy.unbiased_std == 0.0:
        raise ValueError(f"all {energy.count} energies are equal; they cannot be standardized")
    if force_components not in (0, 3 * nodes):
        raise ValueError(
            f"forces for {force_components // 3} of {nodes} atoms; expected all or none"
        )
    return DatasetStatistics(
        num_structures=energy.count,
        energy_mean=energy.mean,
        energy_std=energy.unbiased_std,
        average_degree=edges / nodes,
        average_nodes=nodes / energy.count,
        force_rms=math.sqrt(force_squares / force_components) if force_components else None,
    )

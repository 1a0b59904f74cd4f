"""Between labels in their own unit and the network's standardized numbers."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from equiformer_jax.data.graph_store import GraphStore
from equiformer_jax.data.reference_energies import sum_of_references
from equiformer_jax.data.statistics import DatasetStatistics
from equiformer_jax.structure import LARGEST_ATOMIC_NUMBER, Structure


@dataclasses.dataclass(frozen=True)
class Normalizer:
    """Energy in eV (or a target in its unit) = offset + scale x the network's output.

    Forces are scale x the network's forces.

    Attributes:
      scale: one unit of the network, positive.
      mean: the offset of every structure, unless there are references.
      references: energies of the elements by atomic number; the offset of a structure is their sum
        over its atoms.
    """

    scale: float
    mean: float = 0.0
    references: Mapping[int, float] | None = None

    @classmethod
    def from_settings(
        cls, settings: Mapping[str, Any], statistics: DatasetStatistics
    ) -> Normalizer:
        """The normalizer of a run.

        Args:
          settings: `config.normalizer`: `mean` and `std`, `None` for those of the statistics, and
            `reference_energies`, whether to take off energies per element.
          statistics: those of the training split.

        Raises:
          ValueError: the settings contradict each other, or the reference energies leave nothing to
            standardize with.
        """
        mean, std = settings["mean"], settings["std"]
        if not settings["reference_energies"]:
            given = statistics.with_normalizer(
                statistics.energy_mean if mean is None else mean,
                statistics.energy_std if std is None else std,
            )
            return cls(given.energy_std, given.energy_mean)
        if mean is not None:
            raise ValueError(
                f"config.normalizer: mean={mean} and reference_energies=True; expected one of them"
            )
        scale = statistics.energy_std_referenced if std is None else std
        if not scale or statistics.reference_energies is None:
            raise ValueError(
                "config.normalizer.reference_energies: the energies are sums over elements, and "
                "nothing is left to standardize with; give config.normalizer.std"
            )
        return cls(scale, references=statistics.reference_energies)

    def offset(self, structure: Structure) -> float:
        """What is taken off the label of a structure, in the label's unit.

        Raises:
          ValueError: an element has no reference energy; names it.
        """
        if self.references is None:
            return self.mean
        return sum_of_references(structure.atomic_numbers, self.references)

    def offsets(self, store: GraphStore) -> np.ndarray:
        """float64 `[n]`: `offset` of every graph of a store.

        Raises:
          ValueError: an element has no reference energy; names it.
        """
        if self.references is None:
            return np.full(len(store), self.mean)
        numbers = np.asarray(store.arrays["nodes.atomic_numbers"])
        sum_of_references(numbers, self.references)  # refuses unknown elements
        table = np.zeros(LARGEST_ATOMIC_NUMBER + 1)
        table[list(self.references)] = list(self.references.values())
        return np.add.reduceat(table[numbers], store.first_node[:-1])

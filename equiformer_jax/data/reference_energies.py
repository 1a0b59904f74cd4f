"""Energies of the elements, so that what is left of a total energy is what its bonds make.

The total energy of a structure is first of all a sum over its atoms that only their elements
decide: thousands of eV, of which training wants to learn the last few. Least squares finds the
energy of each element from the total energies of a data set.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

import numpy as np

from equiformer_jax.structure import LARGEST_ATOMIC_NUMBER


class RunningMoments:
    """Welford's mean and variance: total energies are huge beside their spread.

    Attributes:
      count: values seen.
      mean: their mean.
      squares: sum of their squared deviations from the mean.
    """

    __slots__ = ("count", "mean", "squares")

    def __init__(self) -> None:
        self.count, self.mean, self.squares = 0, 0.0, 0.0

    def add(self, value: float) -> None:
        """Takes one more value."""
        self.count += 1
        change = value - self.mean
        self.mean += change / self.count
        self.squares += change * (value - self.mean)

    @property
    def unbiased_std(self) -> float:
        """Unbiased standard deviation of at least two values."""
        return math.sqrt(self.squares / (self.count - 1))


@dataclasses.dataclass(frozen=True)
class ReferenceFit:
    """Energies of the elements, by least squares.

    Attributes:
      energies: eV, by atomic number, of the elements that occur.
      unique: whether the data decide all of them. Where elements occur in fixed ratios only, as in
        frames of one molecule, sums are decided but not every element's share: then these are the
        energies of the smallest norm.
      residual_std: unbiased standard deviation of what is left of the total energies, eV.
    """

    energies: dict[int, float]
    unique: bool
    residual_std: float


class ReferenceEnergyFitter:
    """Gathers total energies, then fits the energies of the elements.

    Structures of the same composition share a row of the least squares problem, weighted by their
    number: the same solution as with a row for each, in a table that stays small. It is solved as
    it stands, not through normal equations, which would square its condition.

    Attributes:
      element_counts: int64 `[119]`, atoms seen of each atomic number.
    """

    def __init__(self) -> None:
        self.element_counts = np.zeros(LARGEST_ATOMIC_NUMBER + 1, np.int64)
        self._energies: dict[bytes, RunningMoments] = {}

    def add(self, atomic_numbers: np.ndarray, energy: float) -> None:
        """Takes one more structure.

        Args:
          atomic_numbers: `[N]`.
          energy: total energy, eV.
        """
        counts = np.bincount(atomic_numbers, minlength=LARGEST_ATOMIC_NUMBER + 1)
        self.element_counts += counts
        elements = np.flatnonzero(counts)
        composition = np.stack([elements, counts[elements]]).astype(np.int32)
        self._energies.setdefault(composition.tobytes(), RunningMoments()).add(energy)

    def fit(self) -> ReferenceFit:
        """Solves for the energies of the elements, in float64; at least two structures."""
        elements = np.flatnonzero(self.element_counts)
        table = np.zeros((len(self._energies), len(elements)))
        for row, composition in zip(table, self._energies, strict=True):
            present, counts = np.frombuffer(composition, np.int32).reshape(2, -1)
            row[np.searchsorted(elements, present)] = counts
        moments = list(self._energies.values())
        means = np.array([m.mean for m in moments])
        weights = np.array([m.count for m in moments], np.float64)
        root = np.sqrt(weights)
        solution, _, rank, _ = np.linalg.lstsq(table * root[:, None], means * root)

        residuals = means - table @ solution
        residuals -= np.average(residuals, weights=weights)
        squares = sum(m.squares for m in moments) + float(weights @ residuals**2)
        return ReferenceFit(
            energies=dict(zip(elements.tolist(), solution.tolist(), strict=True)),
            unique=int(rank) == len(elements),
            residual_std=math.sqrt(squares / (weights.sum() - 1)),
        )


def sum_of_references(atomic_numbers: np.ndarray, references: Mapping[int, float]) -> float:
    """The sum of the reference energies of the atoms of a structure, eV.

    Args:
      atomic_numbers: `[N]`.
      references: eV, by atomic number.

    Raises:
      ValueError: an element has no reference energy; names it.
    """
    elements, counts = np.unique(atomic_numbers, return_counts=True)
    missing = [element for element in elements.tolist() if element not in references]
    if missing:
        raise ValueError(
            f"no reference energy for the atomic numbers {missing}; there are some for "
            f"{sorted(references)}"
        )
    return float(counts @ np.array([references[element] for element in elements.tolist()]))

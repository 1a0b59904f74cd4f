"""Where the errors of a split are: how they are spread, on which structures, on which elements."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from ase.data import chemical_symbols

from equiformer_jax.data.structures import StructureSequence
from equiformer_jax.training.evaluation import Evaluation

_PERCENTILE = 95
_AXES = "xyz"


class ErrorSpread(NamedTuple):
    """How absolute errors are spread.

    Attributes:
      mean: their mean.
      median: their median.
      percentile_95: 95 of 100 are at most this large.
      largest: the largest.
      where: which structure has the largest, and which atom.
    """

    mean: float
    median: float
    percentile_95: float
    largest: float
    where: str


class ElementError(NamedTuple):
    """The error on one element.

    Attributes:
      symbol: of the element.
      number: of atoms or structures that it is the mean of.
      mean: mean absolute error.
    """

    symbol: str
    number: int
    mean: float


def label_spread(evaluation: Evaluation) -> ErrorSpread:
    """How the errors of the label of each structure are spread, in `evaluation.energy_unit`."""
    errors = label_errors(evaluation)
    return _spread(errors, evaluation.structures.name_of(int(np.argmax(errors))))


def force_spread(evaluation: Evaluation) -> ErrorSpread:
    """How the errors of the components of the forces are spread, eV/Å.

    Raises:
      ValueError: the evaluation has no forces.
    """
    errors, structures = force_errors(evaluation), evaluation.structures
    atom, axis = np.unravel_index(np.argmax(errors), errors.shape)
    index, first = 0, 0
    numbers = structures[index].atomic_numbers
    while first + len(numbers) <= atom:
        first += len(numbers)
        index += 1
        numbers = structures[index].atomic_numbers
    place = int(atom) - first
    symbol = chemical_symbols[numbers[place]]
    where = f"{structures.name_of(index)}, atom {place} ({symbol}), {_AXES[axis]}"
    return _spread(errors.ravel(), where)


def force_errors_by_element(evaluation: Evaluation) -> list[ElementError]:
    """Mean absolute error of the force components on the atoms of each element, eV/Å.

    Raises:
      ValueError: the evaluation has no forces.
    """
    errors = force_errors(evaluation).mean(axis=1)
    numbers = np.concatenate(_atomic_numbers(evaluation.structures))
    counts = np.bincount(numbers)
    sums = np.bincount(numbers, weights=errors)
    return [
        ElementError(chemical_symbols[z], int(counts[z]), float(sums[z] / counts[z]))
        for z in np.flatnonzero(counts)
    ]


def label_errors_by_element(evaluation: Evaluation) -> list[ElementError]:
    """Mean absolute error of the label over the structures that contain each element."""
    errors = label_errors(evaluation)
    counts = np.zeros(len(chemical_symbols), int)
    sums = np.zeros(len(chemical_symbols))
    for error, numbers in zip(errors, _atomic_numbers(evaluation.structures), strict=True):
        elements = np.unique(numbers)
        counts[elements] += 1
        sums[elements] += error
    return [
        ElementError(chemical_symbols[z], int(counts[z]), float(sums[z] / counts[z]))
        for z in np.flatnonzero(counts)
    ]


def label_errors(evaluation: Evaluation) -> np.ndarray:
    """Absolute errors of the label, `[n]` in `evaluation.energy_unit`."""
    return np.abs(evaluation.predicted_energies - evaluation.reference_energies)


def force_errors(evaluation: Evaluation) -> np.ndarray:
    """Absolute errors of the force components, `[n_1 + ... + n_n, 3]` eV/Å.

    Raises:
      ValueError: the evaluation has no forces.
    """
    if evaluation.predicted_forces is None or evaluation.reference_forces is None:
        raise ValueError(f"evaluation: expected forces; that of {evaluation.split!r} has none")
    return np.abs(evaluation.predicted_forces - evaluation.reference_forces)


def _spread(errors: np.ndarray, where: str) -> ErrorSpread:
    return ErrorSpread(
        mean=float(errors.mean()),
        median=float(np.median(errors)),
        percentile_95=float(np.percentile(errors, _PERCENTILE)),
        largest=float(errors.max()),
        where=where,
    )


def _atomic_numbers(structures: StructureSequence) -> Sequence[np.ndarray]:
    return [structures[index].atomic_numbers for index in range(len(structures))]

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
from collections.abc import Mapping
from typing import Any

import numpy as np

from equiformer_jax.data.graph_store import GraphStore
from equiformer_jax.data.reference_energies import ReferenceEnergyFitter

_ALWAYS_GATHERED = 6  # of the fields below


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
        forces. What a model predicts for forces is of this scale.
      energy_min: lowest total energy, eV.
      energy_max: highest total energy, eV.
      element_counts: atoms of each element that occurs, by atomic number.
      reference_energies: eV, by atomic number: the energies of the elements whose sums come closest
        to the total energies (least squares).
      reference_energies_unique: whether the data decide each of them. Where elements occur in fixed
        ratios only, as in frames of one molecule, they are those of the smallest norm; their sums
        are right for structures of the same ratios alone.
      energy_std_referenced: unbiased standard deviation of the total energies less the sums of the
        reference energies, eV. It is 0, up to rounding, where these explain all.

    The fields from `energy_min` on are `None` where they were not gathered.
    """

    num_structures: int
    energy_mean: float
    energy_std: float
    average_degree: float
    average_nodes: float
    force_rms: float | None
    energy_min: float | None = None
    energy_max: float | None = None
    element_counts: dict[int, int] | None = None
    reference_energies: dict[int, float] | None = None
    reference_energies_unique: bool | None = None
    energy_std_referenced: float | None = None

    def differences(self, other: DatasetStatistics) -> list[str]:
        """In what the data of others differ from those of these, beyond round-off.

        Returns:
          A text for each of the fields that are always gathered.
        """
        found = []
        for field in dataclasses.fields(self)[:_ALWAYS_GATHERED]:
            ours, theirs = getattr(self, field.name), getattr(other, field.name)
            same = ours == theirs
            if field.name == "energy_mean":  # may be zero, or large beside what matters
                same = abs(ours - theirs) <= 1e-5 * self.energy_std
            elif isinstance(ours, float) and isinstance(theirs, float):
                same = math.isclose(ours, theirs, rel_tol=1e-5)
            if not same:
                found.append(f"{field.name} was {ours}, is now {theirs}")
        return found

    def with_normalizer(self, mean: float, std: float) -> DatasetStatistics:
        """A copy that standardizes energies with given numbers, such as published ones.

        Args:
          mean: takes the place of `energy_mean`, eV.
          std: takes the place of `energy_std`, eV.

        Raises:
          ValueError: `mean` is not finite, or `std` not finite and positive.
        """
        if not math.isfinite(mean):
            raise ValueError(f"mean: expected a finite number, got {mean}")
        if not (math.isfinite(std) and std > 0):
            raise ValueError(f"std: expected a positive finite number, got {std}")
        return dataclasses.replace(self, energy_mean=float(mean), energy_std=float(std))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the statistics as JSON."""
        text = json.dumps(dataclasses.asdict(self), indent=2)
        pathlib.Path(path).write_text(text + "\n", encoding="utf-8")

    @classmethod
    def from_dict(cls, values: dict) -> DatasetStatistics:
        """Builds statistics from the mapping that `dataclasses.asdict` gives, through JSON or not.

        Raises:
          ValueError: a field is unknown, is no mapping where it should be one, or is missing though
            it is always gathered.
        """
        if not isinstance(values, dict):
            raise ValueError(f"statistics: expected values by name, got {values!r}")
        fields = dataclasses.fields(cls)
        known = {field.name for field in fields}
        needed = {field.name for field in fields if field.default is dataclasses.MISSING}
        if not needed <= set(values) <= known:
            raise ValueError(
                f"statistics have the fields {sorted(values)}; expected {sorted(needed)} and "
                f"perhaps {sorted(known - needed)}"
            )
        by_element = {
            name: _by_element(name, values[name])
            for name in ("element_counts", "reference_energies")
            if values.get(name) is not None
        }
        return cls(**{**values, **by_element})

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


def _by_element(name: str, values: Mapping[int | str, Any]) -> dict[int, Any]:
    """The mapping with whole numbers for keys; JSON makes texts of them."""
    try:
        return {int(element): value for element, value in values.items()}
    except (AttributeError, ValueError) as error:
        raise ValueError(f"'{name}': expected values by atomic number, got {values!r}") from error


def compute_statistics(store: GraphStore) -> DatasetStatistics:
    """Gathers the statistics of a split from its graphs, without reading the structures again.

    Args:
      store: graphs with total energies (eV) and, optionally, forces (eV/Å).

    Returns:
      Their statistics, in float64.

    Raises:
      ValueError: the structures have no energies, are fewer than two, or all energies are equal
        (there is then nothing to standardize with).
    """
    energies = store.energies() + store.references
    _check_energies(energies)
    fitter, numbers = ReferenceEnergyFitter(), store.arrays["nodes.atomic_numbers"]
    for first, end, energy in zip(
        store.first_node[:-1], store.first_node[1:], energies.tolist(), strict=True
    ):
        fitter.add(numbers[first:end], energy)
    references = fitter.fit()
    forces = store.arrays.get("nodes.forces")
    return DatasetStatistics(
        num_structures=len(store),
        energy_mean=float(energies.mean()),
        energy_std=float(energies.std(ddof=1)),
        average_degree=float(store.sizes.edges.sum() / store.sizes.nodes.sum()),
        average_nodes=float(store.sizes.nodes.mean()),
        force_rms=None if forces is None else math.sqrt(np.mean(forces.astype(np.float64) ** 2)),
        energy_min=float(energies.min()),
        energy_max=float(energies.max()),
        element_counts={z: int(fitter.element_counts[z]) for z in references.energies},
        reference_energies=references.energies,
        reference_energies_unique=references.unique,
        energy_std_referenced=references.residual_std,
    )


def _check_energies(energies: np.ndarray) -> None:
    if len(energies) < 2:
        raise ValueError(f"{len(energies)} structures; the standard deviation needs at least two")
    if (energies == energies[0]).all():
        raise ValueError(f"all {len(energies)} energies are equal; they cannot be standardized")

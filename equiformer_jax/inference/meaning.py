"""What the numbers that a network gives stand for: which label, in which unit."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from typing import Any

from equiformer_jax.data.normalizer import Normalizer
from equiformer_jax.data.statistics import DatasetStatistics
from equiformer_jax.training.recipe import label_of

# Objectives whose label is the energy of a structure as it is, and so the potential of its forces.
_WITH_FORCES = ("energy_forces", "denoising")


@dataclasses.dataclass(frozen=True)
class Meaning:
    """What the numbers of a model mean.

    Attributes:
      normalizer: from the network's numbers to the label's unit.
      label: what the one number of a structure is: `energy`, `relaxed_energy`, or a target of QM9.
      unit: of the label, eV for energies.
      has_forces: whether the label's negative gradient by the positions is the force on the atoms,
        which is true of the energy of a structure as it is, and of nothing else.
      displacement_std: unit in Å of the displacements to the relaxed positions; `None` for models
        that were not trained to predict any.
      elements: atomic numbers that the model has been trained on; `None` if that is not known.
    """

    normalizer: Normalizer
    label: str = "energy"
    unit: str = "eV"
    has_forces: bool = True
    displacement_std: float | None = None
    elements: Collection[int] | None = None


def meaning_of_run(config: Mapping[str, Any], statistics: DatasetStatistics) -> Meaning:
    """What the numbers of a run's model mean.

    Args:
      config: plain configuration of the run.
      statistics: those of its training split.

    Raises:
      ValueError: the parts of the configuration do not fit each other or the statistics.
    """
    objective = config["objective"]
    label, unit = label_of(config["data"])
    if objective["kind"] == "relaxation":
        label = "relaxed_energy"
    return Meaning(
        normalizer=Normalizer.from_settings(config["normalizer"], statistics),
        label=label,
        unit=unit,
        has_forces=objective["kind"] in _WITH_FORCES,
        displacement_std=objective.get("displacement_std"),
        elements=statistics.element_counts,
    )

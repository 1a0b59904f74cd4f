"""Evaluations and records that no model has made, with errors that are known beforehand."""

from __future__ import annotations

import numpy as np

from equiformer_jax import Structure
from equiformer_jax.data.structures import StructureList
from equiformer_jax.training.evaluation import Evaluation

ELEMENTS = ((8, 1, 1), (6, 8), (6, 1, 1, 1, 1))  # water, carbon monoxide, methane
ERRORS = {"energy_mae_mev": 50.0, "force_mae_mev_per_angstrom": 20.0}


def structures(elements=ELEMENTS):
    return StructureList(
        [Structure(np.arange(3.0 * len(row)).reshape(-1, 3), row) for row in elements],
        "made_up.xyz",
    )


def make_evaluation(count=20, forces=True, split="test", label="energy", energy_unit="eV", **more):
    """Energies are 0.05 eV too high, forces ten percent."""
    generator = np.random.default_rng(0)
    energies = generator.normal(size=count) - 1000
    elements = [ELEMENTS[index % len(ELEMENTS)] for index in range(count)]
    components = generator.normal(size=(sum(map(len, elements)), 3))
    return Evaluation(
        split=split,
        metrics=more.get("metrics", ERRORS if forces else {"energy_mae_mev": 50.0}),
        structures=structures(elements),
        predicted_energies=energies + 0.05,
        reference_energies=energies,
        predicted_forces=components * 1.1 if forces else None,
        reference_forces=components if forces else None,
        label=label,
        energy_unit=energy_unit,
    )


def make_epochs(count, names=tuple(ERRORS), splits=("train", "validation")):
    """Records whose every error is 300 divided by the epoch."""
    return [
        {"kind": "epoch", "epoch": epoch, "step": 4 * epoch, "learning_rate": 1e-3 / epoch}
        | {"loss": 1.0, "structures_per_second": 16.0}
        | {f"{split}_{name}": 300 / epoch for split in splits for name in names}
        for epoch in range(1, count + 1)
    ]

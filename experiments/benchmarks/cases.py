"""The steps that are timed, and what is known of the official release's."""

from __future__ import annotations

import dataclasses

from experiments.benchmarks import structures

FORWARD, FORCES, TRAIN, DYNAMICS = "forward", "forces", "train", "dynamics"


@dataclasses.dataclass(frozen=True)
class Case:
    """One thing to time.

    Attributes:
      preset: the model.
      make: gives so many structures.
      batch_size: structures in a step, over all devices.
      kind: `train`, a full step with AdamW; `forces`, energies and forces; `forward`, energies;
        `dynamics`, one force evaluation of one structure, neighbor list included.
      learns_forces: whether the loss of a training step has forces.
      official: the official release's time on two cores, in matrix products, where it was measured.
    """

    preset: str
    make: structures.Maker
    batch_size: int
    kind: str = TRAIN
    learns_forces: bool = True
    official: float | None = None


_ASPIRIN = structures.aspirin
CASES = {
    "md17_l2_aspirin": Case("md17_l2", _ASPIRIN, 8, official=65),
    "md17_l2_aspirin_batch_1": Case("md17_l2", _ASPIRIN, 1, official=12),
    "md17_l2_aspirin_forces": Case("md17_l2", _ASPIRIN, 8, FORCES, official=24),
    "md17_l2_aspirin_forces_batch_1": Case("md17_l2", _ASPIRIN, 1, FORCES, official=3.9),
    "md17_l2_aspirin_dynamics": Case("md17_l2", _ASPIRIN, 1, DYNAMICS, official=3.9),
    "md17_l2_aspirin_forward": Case("md17_l2", _ASPIRIN, 8, FORWARD),
    "md17_l2_linear_aspirin": Case("md17_l2_linear", _ASPIRIN, 8),
    "md17_l2_dot_product_aspirin": Case("md17_l2_dot_product", _ASPIRIN, 8),
    "md17_l3_aspirin": Case("md17_l3", _ASPIRIN, 8, official=395),
    "md17_l3_aspirin_batch_5": Case("md17_l3", _ASPIRIN, 5),
    "qm9": Case("qm9", structures.qm9_like, 64, learns_forces=False, official=248),
    "qm9_forward": Case("qm9", structures.qm9_like, 64, FORWARD),
    "oc20_is2re": Case("oc20_is2re", structures.slabs, 4, learns_forces=False),
    "oc20_is2re_batch_2": Case("oc20_is2re", structures.slabs, 2, learns_forces=False, official=32),
    "md22_60_atoms": Case("md17_l2", structures.chains(60), 4, official=165),
    "md22_370_atoms": Case("md17_l2", structures.double_walled_nanotube, 1),
}

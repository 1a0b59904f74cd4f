"""The steps that are timed, and what is known of the official release's."""

from __future__ import annotations

import ast
import dataclasses
from typing import Any

from equiformer_jax.models.config import EquiformerConfig
from equiformer_jax.models.presets import get_preset
from experiments.benchmarks import structures
from experiments.configs.parts import EDGES_IN_CACHE
from experiments.tpu.sizes import SYSTEMS

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
      changes: fields of the model that differ from the preset, with their values.
    """

    preset: str
    make: structures.Maker
    batch_size: int
    kind: str = TRAIN
    learns_forces: bool = True
    official: float | None = None
    changes: tuple[tuple[str, Any], ...] = ()

    @property
    def config(self) -> EquiformerConfig:
        """Of the model."""
        return get_preset(self.preset, **dict(self.changes))


_ASPIRIN = structures.aspirin
_IN_BLOCKS = (("edge_block_size", EDGES_IN_CACHE),)  # as the configurations of these data sets
_QM9 = Case("qm9", structures.qm9_like, 64, learns_forces=False, official=248, changes=_IN_BLOCKS)
_OC20 = Case("oc20_is2re", structures.slabs, 4, learns_forces=False, changes=_IN_BLOCKS)
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
    "qm9": _QM9,
    "qm9_forward": dataclasses.replace(_QM9, kind=FORWARD, official=None),
    "oc20_is2re": _OC20,
    "oc20_is2re_batch_2": dataclasses.replace(_OC20, batch_size=2, official=32),
    "md22_60_atoms": Case("md17_l2", structures.chains(60), 4, official=165),
    **{f"md22_{name}": Case("md17_l2", structures.md22_system(name), 1) for name in SYSTEMS},
}


def find_case(text: str) -> Case:
    """A case by its name, behind which it can be changed.

    Args:
      text: such as `md17_l2_aspirin,remat=True,edge_block_size=512`: fields of the model;
        `batch_size=4`; `atoms=400`, made-up chains of so many atoms.

    Raises:
      ValueError: there is no such case or field, or the field does not take the value.
    """
    name, *changes = text.split(",")
    if name not in CASES:
        raise ValueError(f"case={name!r}; known are {sorted(CASES)}")
    case, fields = CASES[name], dict(_read_change(text) for text in changes)
    for field in ("batch_size", "atoms"):
        if field in fields:
            case = _resized(case, field, fields.pop(field))
    case = dataclasses.replace(case, changes=tuple((dict(case.changes) | fields).items()))
    try:
        _ = case.config
    except TypeError as error:
        raise ValueError(f"case={text!r}: {error}") from error
    return case


def _resized(case: Case, field: str, value: Any) -> Case:
    if not isinstance(value, int) or value < 1:
        raise ValueError(f"{field}={value!r}; expected a whole number from 1")
    if field == "batch_size":
        return dataclasses.replace(case, batch_size=value, official=None)
    return dataclasses.replace(case, make=structures.chains(value), official=None)


def _read_change(text: str) -> tuple[str, Any]:
    field, equals, value = text.partition("=")
    if not equals:
        raise ValueError(f"{text!r}; expected FIELD=VALUE")
    try:
        return field, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return field, value  # a word

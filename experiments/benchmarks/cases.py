"""The steps that are timed, and what is known of the official release's."""

from __future__ import annotations

import ast
import dataclasses
import itertools
from collections.abc import Iterator
from typing import Any

from equiformer_jax.models.config import FIELDS_OF_MEMORY, EquiformerConfig
from equiformer_jax.models.presets import get_preset
from experiments.benchmarks import structures
from experiments.configs.parts import EDGES_IN_CACHE, EDGES_OF_MOLECULES
from experiments.tpu.sizes import SYSTEMS

FORWARD, FORCES, TRAIN, DYNAMICS = "forward", "forces", "train", "dynamics"
_KINDS = (TRAIN, FORCES, FORWARD, DYNAMICS)


@dataclasses.dataclass(frozen=True)
class Case:
    """One thing to time.

    Attributes:
      preset: the model.
      make: gives so many structures.
      batch_size: structures in a step, over all devices.
      kind: `train`, a full step with AdamW; `forces`, energies and forces; `forward`, energies;
        `dynamics`, one force evaluation of one structure, neighbor list included.
      official: the official release's time on two cores, in matrix products, where it was measured.
      changes: fields of the model that differ from the recipe, with their values.
    """

    preset: str
    make: structures.Maker
    batch_size: int
    kind: str = TRAIN
    official: float | None = None
    changes: tuple[tuple[str, Any], ...] = ()

    @property
    def learns_forces(self) -> bool:
        """Whether the loss of a training step has forces: those of the models for MD17 have."""
        return "md17" in self.preset

    @property
    def config(self) -> EquiformerConfig:
        """Of the model, with edges in blocks where its recipe has them so."""
        return get_preset(
            self.preset, **({"edge_block_size": self._block_size()} | dict(self.changes))
        )

    def _block_size(self) -> int | None:
        """Of the recipe; those of MD22 and of made-up chains have none."""
        if not self.learns_forces:
            return EDGES_IN_CACHE
        return EDGES_OF_MOLECULES if self.make is structures.aspirin else None


# What is trained: a name, the model, its structures, and batch sizes, the first one the usual one.
_TRAINED: tuple[tuple[str, str, structures.Maker, tuple[int, ...]], ...] = (
    ("md17_l2_aspirin", "md17_l2", structures.aspirin, (8, 5, 1)),
    ("md17_l2_linear_aspirin", "md17_l2_linear", structures.aspirin, (8,)),
    ("md17_l2_dot_product_aspirin", "md17_l2_dot_product", structures.aspirin, (8,)),
    ("md17_l3_aspirin", "md17_l3", structures.aspirin, (8, 5)),
    *(
        (name, name, structures.qm9_like, (64,))
        for name in ("qm9", "qm9_linear", "qm9_dot_product")
    ),
    ("oc20_is2re", "oc20_is2re", structures.slabs, (4, 2)),
    *(
        (name, name, structures.slabs, (4,))
        for name in (
            *("oc20_is2re_linear", "oc20_is2re_dot_product"),
            *("oc20_ablation_1", "oc20_ablation_2", "oc20_ablation_3"),
        )
    ),
    ("md22_60_atoms", "md17_l2", structures.chains(60), (4,)),
    *(
        (
            f"md22_{name}",
            "md17_l2",
            structures.md22_system(name),
            (1, 4) if name == "AT-AT" else (1,),
        )
        for name in SYSTEMS
    ),
)
_OFFICIAL = {
    "md17_l2_aspirin": 65,
    "md17_l2_aspirin_batch_1": 12,
    "md17_l2_aspirin_forces": 24,
    "md17_l2_aspirin_forces_batch_1": 3.9,
    "md17_l2_aspirin_dynamics": 3.9,
    "md17_l3_aspirin": 395,
    "qm9": 248,
    "oc20_is2re_batch_2": 32,
    "md22_60_atoms": 165,
}


def _named_cases() -> Iterator[tuple[str, Case]]:
    """All that is trained, as `NAME[_forces|_forward][_batch_N]`, and `NAME_dynamics` of MD17."""
    for name, preset, make, sizes in _TRAINED:
        for kind, size in itertools.product((TRAIN, FORCES, FORWARD), sizes):
            full = name if kind == TRAIN else f"{name}_{kind}"
            full = full if size == sizes[0] else f"{full}_batch_{size}"
            yield full, Case(preset, make, size, kind, _OFFICIAL.get(full))
        if make is structures.aspirin:
            full = f"{name}_{DYNAMICS}"
            yield full, Case(preset, make, 1, DYNAMICS, _OFFICIAL.get(full))


CASES = dict(_named_cases())


def find_case(text: str) -> Case:
    """A case by its name, behind which it can be changed.

    Args:
      text: such as `md17_l2_aspirin,remat=True,edge_block_size=512`: fields of the model;
        `preset=md17_l3`, another model, as its recipe has it; `kind=forces`, another step;
        `batch_size=4`; `atoms=400`, made-up chains of so many atoms.

    Raises:
      ValueError: there is no such case, preset, kind or field, or the field does not take the
        value.
    """
    name, *changes = text.split(",")
    if name not in CASES:
        raise ValueError(f"case={name!r}; known are {sorted(CASES)}")
    case, fields = CASES[name], dict(_read_change(change) for change in changes)
    try:
        for field in ("preset", "kind", "batch_size", "atoms"):
            if field in fields:
                case = _changed(case, field, fields.pop(field))
        if case.kind == DYNAMICS and case.batch_size != 1:
            raise ValueError(
                f"batch_size={case.batch_size}; a step of dynamics has one structure, 1"
            )
        official = case.official if fields.keys() <= FIELDS_OF_MEMORY else None
        case = dataclasses.replace(case, changes=tuple(fields.items()), official=official)
        _ = case.config
    except (TypeError, ValueError) as error:
        raise ValueError(f"case={text!r}: {error}") from error
    return case


def _changed(case: Case, field: str, value: Any) -> Case:
    """Another model, step, batch or system, whose official time is not known."""
    case = dataclasses.replace(case, official=None)
    if field == "preset":
        return dataclasses.replace(case, preset=str(value))
    if field == "kind":
        if value not in _KINDS:
            raise ValueError(f"kind={value!r}; expected one of {', '.join(_KINDS)}")
        return dataclasses.replace(
            case, kind=value, batch_size=1 if value == DYNAMICS else case.batch_size
        )
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{field}={value!r}; expected a whole number from 1")
    if field == "batch_size":
        return dataclasses.replace(case, batch_size=value)
    return dataclasses.replace(case, make=structures.chains(value))


def _read_change(text: str) -> tuple[str, Any]:
    field, equals, value = text.partition("=")
    if not equals:
        raise ValueError(f"{text!r}; expected FIELD=VALUE")
    try:
        return field, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return field, value  # a word

"""Data sets by name, as configurations ask for them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from equiformer_jax.data.datasets.files import load_files
from equiformer_jax.data.datasets.md17 import load_md17, load_md22, load_rmd17
from equiformer_jax.data.datasets.oc20 import load_oc20_is2re, load_oc20_s2ef
from equiformer_jax.data.datasets.qm9 import load_qm9
from equiformer_jax.data.embedded import load_embedded_aspirin
from equiformer_jax.data.readers.label_keys import LabelKeys
from equiformer_jax.data.structures import StructureList, StructureSequence

SPLITS = ("train", "validation", "test")
Splits = Mapping[str, StructureSequence]


def _embedded_aspirin() -> Splits:
    parts = load_embedded_aspirin().items()
    return {split: StructureList(frames, f"embedded aspirin, {split}") for split, frames in parts}


DATASETS: Mapping[str, Callable[..., Splits]] = {
    "embedded_aspirin": _embedded_aspirin,
    "md17": load_md17,
    "rmd17": load_rmd17,
    "md22": load_md22,
    "qm9": load_qm9,
    "oc20_is2re": load_oc20_is2re,
    "oc20_s2ef": load_oc20_s2ef,
    "files": load_files,
}


def load_dataset(
    name: str,
    options: Mapping[str, Any] | None = None,
    limits: Mapping[str, int | None] | None = None,
) -> dict[str, StructureSequence]:
    """Loads the splits `train`, `validation` and `test` of a data set.

    Args:
      name: one of `DATASETS`.
      options: what that data set wants to know, the arguments of its function in `DATASETS`.
      limits: for some splits, keep only so many structures, the first ones; `None` keeps all.

    Raises:
      ValueError: the data set, an option or a split is unknown, an option is missing, or a limit is
        not positive.
      FileNotFoundError: a file is not there.
      DataError: a file is damaged or does not hold what it should.
    """
    if name not in DATASETS:
        raise ValueError(f"unknown data set {name!r}; known are {sorted(DATASETS)}")
    given = dict((options or {}).items())
    _check_options(name, given)
    splits = dict(DATASETS[name](**given))
    for split, limit in (limits or {}).items():
        if split not in splits:
            raise ValueError(f"unknown split {split!r} in limits; expected some of {SPLITS}")
        if limit is not None and limit < 1:
            raise ValueError(f"the limit of split {split!r} is {limit}; expected at least 1")
        splits[split] = splits[split][:limit]
    return splits


def _check_options(name: str, given: Mapping[str, Any]) -> None:
    parameters = dict(inspect.signature(DATASETS[name]).parameters)
    if parameters.pop("keys", None) is not None:  # the fields of LabelKeys, by name
        parameters |= inspect.signature(LabelKeys).parameters
    required = {key for key, p in parameters.items() if p.default is p.empty}
    unknown, missing = sorted(given.keys() - parameters.keys()), sorted(required - given.keys())
    if unknown or missing:
        raise ValueError(
            f"data.options of {name!r}: unknown {unknown}, missing {missing}; "
            f"known are {sorted(parameters)}"
        )

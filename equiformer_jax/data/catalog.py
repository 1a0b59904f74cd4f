"""Data sets by name, as configurations ask for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from equiformer_jax.data.embedded import load_embedded_aspirin
from equiformer_jax.structure import Structure

SPLITS = ("train", "validation", "test")
Splits = Mapping[str, Sequence[Structure]]

DATASETS: Mapping[str, Callable[[], Splits]] = {
    "embedded_aspirin": load_embedded_aspirin,
}


def load_dataset(name: str, limits: Mapping[str, int | None] | None = None) -> Splits:
    """Loads the splits `train`, `validation` and `test` of a data set.

    Args:
      name: one of `DATASETS`.
      limits: for some splits, keep only so many structures, the first ones; `None` keeps all.

    Raises:
      ValueError: the data set or a split is unknown, or a limit is not positive.
    """
    if name not in DATASETS:
        raise ValueError(f"unknown data set {name!r}; known are {sorted(DATASETS)}")
    splits = dict(DATASETS[name]())
    for split, limit in (limits or {}).items():
        if split not in splits:
            raise ValueError(f"unknown split {split!r} in limits; expected some of {SPLITS}")
        if limit is not None and limit < 1:
            raise ValueError(f"the limit of split {split!r} is {limit}; expected at least 1")
        splits[split] = splits[split][:limit]
    return splits

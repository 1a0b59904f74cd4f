"""The user's own files."""

from __future__ import annotations

from typing import Any

from equiformer_jax.data.datasets.places import blocks_of_time, existing, take
from equiformer_jax.data.readers.ase_files import read_ase
from equiformer_jax.data.readers.label_keys import LabelKeys
from equiformer_jax.data.splits import permutation_split
from equiformer_jax.data.structures import StructureSequence

ORDERS = ("random", "blocks")
# Of each of the splits that have no file of their own.
_HELD_OUT = 0.1
# Frames between blocks, as a share of the trajectory.
_GAP = 0.01


def load_files(
    train: str,
    validation: str | None = None,
    test: str | None = None,
    order: str = "random",
    split_seed: int = 1,
    **keys: Any,
) -> dict[str, StructureSequence]:
    """Structures from files that ASE reads, one for each split or one for several.

    A split without a file gets a tenth of the structures of the training file.

    Args:
      train: file to train on.
      validation: file to validate on.
      test: file to test on.
      order: how structures are taken from the training file: `random`, or `blocks` of a trajectory,
        with a gap of a hundredth of it between them.
      split_seed: of the random choice.
      **keys: fields of `LabelKeys`: names and units of the labels. Empty text and None stand for
        "the default", "none" for a label that is not to be read.

    Raises:
      FileNotFoundError: a file is not there.
      ValueError: an option is unknown or does not fit.
    """
    if not train:
        raise ValueError("data.options.train: expected a file to train on, got none")
    if order not in ORDERS:
        raise ValueError(f"data.options.order={order!r}; known are {list(ORDERS)}")
    labels = _label_keys(keys)
    given = {"train": train, "validation": validation, "test": test}
    files = {
        split: read_ase(existing(file, split), labels) for split, file in given.items() if file
    }
    missing = [split for split in given if split not in files]
    if missing:
        divided = _divided(files["train"], missing, order, split_seed)
        files |= {split: divided[split] for split in ("train", *missing)}
    return {split: files[split] for split in given}


def _divided(
    structures: StructureSequence, missing: list[str], order: str, seed: int
) -> dict[str, StructureSequence]:
    """The training structures and, out of them, those of the missing splits."""
    count = len(structures)
    held_out = max(1, round(_HELD_OUT * count))
    gap = max(1, round(_GAP * count)) if order == "blocks" else 0
    sizes = [held_out if split in missing else 0 for split in ("validation", "test")]
    num_train = count - sum(sizes) - gap * len(missing)
    if num_train < 1:
        raise ValueError(
            f"data.options.train has {count} structures, too few to take some for {missing}"
        )
    if order == "random":
        validation, test = sizes
        return take(structures, permutation_split(count, num_train, validation, test, seed=seed))
    if len(missing) == 2:
        return take(structures, blocks_of_time(count))
    return {"train": structures[:num_train], missing[0]: structures[count - held_out :]}


def _label_keys(keys: dict[str, Any]) -> LabelKeys:
    chosen = {name: value for name, value in keys.items() if value not in (None, "")}
    return LabelKeys(**{name: _none_or(value) for name, value in chosen.items()})


def _none_or(value: Any) -> Any:
    return None if value == "none" else value

"""Which structures to train on, to choose by and to test on.

Every function gives int64 indices for the splits "train", "validation" and "test"; no index is in
two of them. The random ones draw from NumPy's `default_rng` and repeat the published splits number
by number, order included.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

Splits = dict[str, np.ndarray]
SPLIT_NAMES = ("train", "validation", "test")

MD17_SEED = 1
MD17_TRAIN, MD17_VALIDATION = 950, 50

QM9_SEED = 1
QM9_MOLECULES = 130_831  # without the 3,054 whose geometry is uncharacterized
QM9_TRAIN, QM9_VALIDATION = 110_000, 10_000


def permutation_split(
    num_structures: int,
    num_train: int,
    num_validation: int,
    num_test: int | None = None,
    seed: int = 1,
) -> Splits:
    """Cuts `default_rng(seed).permutation(num_structures)` into three pieces, in this order.

    For structures that do not depend on each other: frames of a trajectory that follow each other
    closely are nearly equal, and a random test set then measures memory (see `block_split`).

    Args:
      num_structures: how many there are.
      num_train: the first so many of the permutation, at least 1.
      num_validation: the next ones; may be 0.
      num_test: the next ones; if not given, all that remain.
      seed: of the generator.

    Raises:
      ValueError: a number is not whole, too small, or they exceed the number of structures.
    """
    total = _whole("num_structures", num_structures, 1)
    train = _whole("num_train", num_train, 1)
    validation = _whole("num_validation", num_validation, 0)
    remaining = total - train - validation
    test = remaining if num_test is None else _whole("num_test", num_test, 0)
    if not 0 <= test <= remaining:
        raise ValueError(
            f"num_structures: {total} are too few for num_train {train}, "
            f"num_validation {validation} and num_test {num_test}"
        )
    order = np.random.default_rng(_whole("seed", seed, 0)).permutation(total)
    ends = np.cumsum([train, validation, test])
    return _splits(*np.split(order, ends)[:3])


def md17_split(num_frames: int) -> Splits:
    """The published split of an MD17 trajectory (SPEC.md §12.3).

    Of `default_rng(1).permutation(num_frames)` the first 950 are for training, the next 50 for
    validation and all others to test on, in the order of the permutation. The order of the test
    split matters: the recipe tests on its first batches only while it trains.

    Args:
      num_frames: more than 1,000.

    Raises:
      ValueError: there are too few frames.
    """
    num_known = MD17_TRAIN + MD17_VALIDATION
    num_frames = _whole("num_frames", num_frames, num_known + 1)
    return permutation_split(num_frames, MD17_TRAIN, MD17_VALIDATION, seed=MD17_SEED)


def qm9_split(num_molecules: int = QM9_MOLECULES, scaled: bool = False) -> Splits:
    """The published split of QM9: 110,000, 10,000 and 10,831 molecules (SPEC.md §12.2).

    Pieces of `default_rng(1).permutation(130831)` in this order; an index counts the molecules that
    are kept, in the order of the file.

    Args:
      num_molecules: how many there are.
      scaled: with another number of molecules, share them in the same proportions. The results
        then cannot be compared with published ones.

    Raises:
      ValueError: another number of molecules, and `scaled` was not asked for.
    """
    num_molecules = _whole("num_molecules", num_molecules, 1)
    if num_molecules == QM9_MOLECULES:
        return permutation_split(QM9_MOLECULES, QM9_TRAIN, QM9_VALIDATION, seed=QM9_SEED)
    if not scaled:
        raise ValueError(
            f"num_molecules: the published split is one of {QM9_MOLECULES} molecules, got "
            f"{num_molecules}; ask for a scaled split to share them in the same proportions"
        )
    train = num_molecules * QM9_TRAIN // QM9_MOLECULES
    validation = num_molecules * QM9_VALIDATION // QM9_MOLECULES
    if validation == 0:
        raise ValueError(f"num_molecules: {num_molecules} are too few to share in three")
    return permutation_split(num_molecules, train, validation, seed=QM9_SEED)


def csv_split(
    train_indices: Sequence[int] | np.ndarray,
    test_indices: Sequence[int] | np.ndarray,
    num_validation: int,
    seed: int = 1,
) -> Splits:
    """A published training and test split, with validation structures out of the training ones.

    For rMD17, whose files name 1,000 frames to train on: 950 and 50. The published files do not say
    which; here it is the last ones of `default_rng(seed).permutation(train_indices)`.

    Args:
      train_indices: `[n]`, of training and validation together.
      test_indices: `[m]`, kept in their order.
      num_validation: less than n.
      seed: of the generator.

    Raises:
      ValueError: an index is negative, not whole or named twice, or the number does not fit.
    """
    known = _indices("train_indices", train_indices)
    test = _indices("test_indices", test_indices)
    validation = _whole("num_validation", num_validation, 0)
    if validation >= len(known):
        raise ValueError(
            f"num_validation: expected less than the {len(known)} of train_indices, "
            f"got {validation}"
        )
    order = np.random.default_rng(_whole("seed", seed, 0)).permutation(known)
    num_train = len(known) - validation
    return _splits(order[:num_train], order[num_train:], test)


def block_split(
    num_frames: int, sizes: tuple[int, int, int] | tuple[float, float, float], gap: int
) -> Splits:
    """Contiguous blocks of a trajectory, with unused frames between them.

    The first block is for training, the second for validation and the third to test on, so that no
    frame to test on is a neighbor of one to train on.

    Args:
      num_frames: of the trajectory, in order of time.
      sizes: frames of each block, at least 1; or three fractions, of the frames that the two gaps
        leave, with a sum of at most 1. What is left over at the end is unused.
      gap: unused frames between two blocks.

    Raises:
      ValueError: a number is not whole, too small, or they exceed the number of frames.
    """
    total, gap = _whole("num_frames", num_frames, 1), _whole("gap", gap, 0)
    if len(sizes) != len(SPLIT_NAMES):
        raise ValueError(f"sizes: expected three, for {SPLIT_NAMES}, got {sizes}")
    if any(isinstance(size, float) for size in sizes):
        counts = _counts_of_fractions(total - 2 * gap, sizes)
    else:
        counts = [_whole("sizes", size, 1) for size in sizes]
    needed = sum(counts) + 2 * gap
    if min(counts) < 1 or needed > total:
        raise ValueError(
            f"num_frames: {total} are too few for blocks of {counts} frames with gaps of {gap}"
        )
    blocks, start = [], 0
    for count in counts:
        blocks.append(np.arange(start, start + count))
        start += count + gap
    return _splits(*blocks)


def _counts_of_fractions(num_usable: int, fractions: Sequence[float]) -> list[int]:
    """Rounds where blocks end and not their sizes, so that fractions of sum 1 use every frame."""
    if not all(0 < fraction < 1 for fraction in fractions) or sum(fractions) > 1 + 1e-9:
        raise ValueError(
            f"sizes: expected three counts, or fractions with a sum of at most 1, got {fractions}"
        )
    ends = np.round(np.cumsum(fractions) * num_usable).astype(int)
    return np.diff(ends, prepend=0).tolist()


def _splits(train: np.ndarray, validation: np.ndarray, test: np.ndarray) -> Splits:
    """Names the three, after a look whether they are disjoint."""
    values, counts = np.unique(np.concatenate([train, validation, test]), return_counts=True)
    if len(counts) and counts.max() > 1:
        raise ValueError(f"index {values[counts > 1][0]} is in two splits")
    arrays = (train, validation, test)
    return {
        name: np.asarray(array, np.int64) for name, array in zip(SPLIT_NAMES, arrays, strict=True)
    }


def _indices(name: str, values: Sequence[int] | np.ndarray) -> np.ndarray:
    """Whole, not negative, each one once."""
    array = np.asarray(values)
    if array.ndim != 1 or array.dtype.kind not in "iu" or len(array) == 0:
        raise ValueError(
            f"{name}: expected a list of integers, got shape {list(array.shape)} of {array.dtype}"
        )
    if array.min() < 0:
        raise ValueError(f"{name}: expected indices from 0 on, got {array.min()}")
    unique, counts = np.unique(array, return_counts=True)
    if counts.max() > 1:
        raise ValueError(f"{name}: index {unique[counts > 1][0]} is named more than once")
    return array.astype(np.int64)


def _whole(name: str, value: Any, smallest: int) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or number < smallest:
        raise ValueError(f"{name}: expected a whole number of at least {smallest}, got {value!r}")
    return number

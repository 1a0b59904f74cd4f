"""MD17, revised MD17 and MD22: trajectories of one molecule each."""

from __future__ import annotations

from collections.abc import Iterable

from equiformer_jax.data.datasets.places import blocks_of_time, existing, locate, take
from equiformer_jax.data.download.archive import unpack
from equiformer_jax.data.errors import DataError
from equiformer_jax.data.readers.md17 import (
    MD17_COUPLED_CLUSTER_FILES,
    MD17_FILES,
    read_md17,
    read_md17_coupled_cluster,
)
from equiformer_jax.data.readers.md22 import MD22_SYSTEMS, read_md22
from equiformer_jax.data.readers.rmd17 import RMD17_MOLECULES, read_rmd17, read_rmd17_split
from equiformer_jax.data.splits import block_split, csv_split, md17_split, permutation_split
from equiformer_jax.data.structures import StructureSequence

NUM_VALIDATION = 50

Splits = dict[str, StructureSequence]


def load_md17(
    molecule: str,
    order: str = "published",
    file: str | None = None,
    directory: str | None = None,
    download: bool = True,
) -> Splits:
    """950 frames to train on, 50 to validate, the rest to test on (SPEC §12.3).

    The coupled-cluster sets bring a split of their own: 50 of its training frames validate.

    Args:
      molecule: a key of `MD17_FILES`.
      order: `published`, or `blocks` of time: frames that follow each other closely are nearly
        equal, and at random some of them are trained on and others tested.
      file: the file, if it is not in its place in the folder of data sets.
      directory: folder of all data sets.
      download: fetch what is not there.

    Raises:
      ValueError: the molecule is unknown.
    """
    _check_known("molecule", molecule, MD17_FILES)
    path = existing(file, "file") if file else locate(f"md17/{molecule}", directory, download)
    if molecule in MD17_COUPLED_CLUSTER_FILES:
        parts = read_md17_coupled_cluster(path)
        num_train = len(parts["train"]) - NUM_VALIDATION
        indices = permutation_split(len(parts["train"]), num_train, NUM_VALIDATION, 0)
        del indices["test"]
        return {**take(parts["train"], indices), "test": parts["test"]}
    frames = read_md17(path)
    in_blocks = _check_known("order", order, ("published", "blocks")) == "blocks"
    return take(frames, (blocks_of_time if in_blocks else md17_split)(len(frames)))


def load_rmd17(
    molecule: str,
    split: int = 1,
    file: str | None = None,
    directory: str | None = None,
    download: bool = True,
) -> Splits:
    """950 training frames, 50 validation frames and 1,000 test frames of an official split.

    An archive is unpacked once, into a folder beside it.

    Args:
      molecule: a key of `RMD17_MOLECULES`.
      split: which of the five, from 1.
      file: the public archive or the folder that it was unpacked to, if it is not in its place.
      directory: folder of all data sets.
      download: fetch what is not there.

    Raises:
      ValueError: the molecule or the split is unknown, or the file is that of one molecule alone.
    """
    _check_known("molecule", molecule, RMD17_MOLECULES)
    path = existing(file, "file") if file else locate("rmd17", directory, download)
    if path.suffix == ".npz":
        raise ValueError(
            f"data.options.file: {path} has no official split; expected the public archive or the "
            "folder that it was unpacked to"
        )
    if path.is_file():
        path = unpack(path, path.with_name(f"{path.name}.unpacked"))
    frames = read_rmd17(path, molecule)
    official = read_rmd17_split(path, split, len(frames))
    return take(frames, csv_split(official["train"], official["test"], NUM_VALIDATION))


def load_md22(
    system: str,
    num_train: int,
    num_validation: int,
    order: str = "random",
    file: str | None = None,
    directory: str | None = None,
    download: bool = True,
) -> Splits:
    """Frames drawn at random: the data set's paper says how many, not which.

    Args:
      system: a key of `MD22_SYSTEMS`.
      num_train: frames to train on.
      num_validation: frames to validate on; the rest is for testing.
      order: `random`, or `blocks` of time with a hundredth of the trajectory between them.
      file: the file, npz or xyz, if it is not in its place.
      directory: folder of all data sets.
      download: fetch what is not there.

    Raises:
      ValueError: the system is unknown.
      DataError: the file is that of another system.
    """
    _check_known("system", system, MD22_SYSTEMS)
    path = existing(file, "file") if file else locate(f"md22/{system}", directory, download)
    frames = read_md22(path)
    expected, found = MD22_SYSTEMS[system].num_atoms, len(frames.atomic_numbers)
    if found != expected:
        raise DataError(path, f"frames of {found} atoms; expected the {expected} of {system}")
    if _check_known("order", order, ("random", "blocks")) == "random":
        return take(frames, permutation_split(len(frames), num_train, num_validation))
    gap = max(1, len(frames) // 100)
    num_test = len(frames) - num_train - num_validation - 2 * gap
    return take(frames, block_split(len(frames), (num_train, num_validation, num_test), gap))


def _check_known(option: str, value: str, known: Iterable[str]) -> str:
    """The value, if it is one of those known."""
    names = list(known)
    if value not in names:
        raise ValueError(f"data.options.{option}={value!r}; known are {names}")
    return value

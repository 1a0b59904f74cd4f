"""Where the files of a data set are: named by the user, found in a folder, or fetched."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Mapping

import numpy as np

from equiformer_jax.data.download.cache import data_folder
from equiformer_jax.data.download.fetch import fetch_named
from equiformer_jax.data.download.sources import SOURCES
from equiformer_jax.data.splits import block_split
from equiformer_jax.data.structures import StructureSequence

# Of a trajectory that is split in blocks: the share of validation and of test, and of each gap.
_HELD_OUT, _GAP = 0.1, 0.01


def locate(source: str, directory: str | None, download: bool) -> pathlib.Path:
    """The file of a public source on this machine.

    Args:
      source: a key of `SOURCES`.
      directory: folder of all data sets; see `download.cache.data_folder`.
      download: fetch the file if it is not there.

    Returns:
      Its path.

    Raises:
      FileNotFoundError: it is not there and must not be fetched; says where it was looked for.
      DownloadError: it could not be fetched; says what to fetch by hand.
    """
    if download:
        return fetch_named(source, directory)
    path = data_folder(directory) / source.partition("/")[0] / SOURCES[source].file_name
    if not path.exists():
        raise FileNotFoundError(
            f"{path} is not there; download it from {SOURCES[source].urls[0]}, "
            "or allow that with data.options.download=True"
        )
    return path


def existing(path: str | os.PathLike[str], option: str) -> pathlib.Path:
    """A path that the user gave.

    Raises:
      FileNotFoundError: nothing is there; names the option.
    """
    found = pathlib.Path(path).expanduser()
    if not found.exists():
        raise FileNotFoundError(f"data.options.{option}: {found} is not there")
    return found


def blocks_of_time(num_frames: int) -> dict[str, np.ndarray]:
    """Blocks of a trajectory: eight tenths, a tenth and a tenth, a hundredth between them."""
    gap = max(1, round(_GAP * num_frames))
    return block_split(num_frames, (1 - 2 * _HELD_OUT, _HELD_OUT, _HELD_OUT), gap)


def take(
    structures: StructureSequence, indices: Mapping[str, np.ndarray]
) -> dict[str, StructureSequence]:
    """The structures of each split."""
    return {split: structures[chosen] for split, chosen in indices.items()}

"""rMD17: MD17's molecules with energies and forces computed anew, more accurately, and its splits.

The public archive `rmd17.tar.bz2` holds `rmd17/npz_data/rmd17_<molecule>.npz`, each with
`nuclear_charges` (n,), `coords` (M, n, 3) in Å, `energies` (M,) in kcal/mol and `forces` (M, n, 3)
in kcal/mol/Å, and five splits as `rmd17/splits/index_train_01.csv`, `index_test_01.csv` and so on.
The arrays `old_*`, which refer to MD17, are not read.
"""

from __future__ import annotations

import io
import os
import pathlib
import tarfile
from collections.abc import Sequence

import numpy as np

from equiformer_jax.data.errors import DataError
from equiformer_jax.data.readers.file_format import HEAD_SIZE, describe_format
from equiformer_jax.data.readers.frames import FrameKeys, FrameSequence
from equiformer_jax.data.readers.npz_file import read_npz, read_npz_content
from equiformer_jax.data.structures import file_fingerprint
from equiformer_jax.data.units import EV_PER_KCAL_MOL

# The files by the name that the molecule has here.
RMD17_MOLECULES = {
    "aspirin": "rmd17_aspirin.npz",
    "azobenzene": "rmd17_azobenzene.npz",
    "benzene": "rmd17_benzene.npz",
    "ethanol": "rmd17_ethanol.npz",
    "malonaldehyde": "rmd17_malonaldehyde.npz",
    "naphthalene": "rmd17_naphthalene.npz",
    "paracetamol": "rmd17_paracetamol.npz",
    "salicylic_acid": "rmd17_salicylic.npz",
    "toluene": "rmd17_toluene.npz",
    "uracil": "rmd17_uracil.npz",
}

# Frames of every molecule but azobenzene, which has 99,988.
RMD17_FRAMES = 100_000
RMD17_SPLITS = (1, 2, 3, 4, 5)

RMD17_KEYS = FrameKeys(
    atomic_numbers="nuclear_charges", positions="coords", energies="energies", forces="forces"
)


def read_rmd17(path: str | os.PathLike[str], molecule: str | None = None) -> FrameSequence:
    """Reads the frames of one molecule.

    Args:
      path: an `.npz` file, the public archive, or the folder that it was unpacked to. Reading from
        the archive decompresses all that stands before the file, which takes minutes: unpack it to
        read more than once.
      molecule: one of `RMD17_MOLECULES`; needed for an archive or a folder.

    Returns:
      Its frames in their order, converted to Å, eV and eV/Å.

    Raises:
      FileNotFoundError: nothing is there, or the folder lacks the file.
      ValueError: the molecule is missing or unknown.
      DataError: a file cannot be read, or its contents do not fit each other.
    """
    path = pathlib.Path(path)
    if path.suffix != ".npz":
        if molecule not in RMD17_MOLECULES:
            raise ValueError(
                f"molecule: expected one of {sorted(RMD17_MOLECULES)} for {path}, got {molecule!r}"
            )
        member = f"npz_data/{RMD17_MOLECULES[molecule]}"
        if not path.is_dir():
            (content,) = _archive_contents(path, [member])
            title = f"{path}/rmd17/{member}"
            arrays = read_npz_content(io.BytesIO(content), RMD17_KEYS.names, title)
            return _frames(title, arrays, file_fingerprint(path, member))
        path = _file_in_folder(path, member)
    return _frames(path, read_npz(path, RMD17_KEYS.names), file_fingerprint(path))


def read_rmd17_split(
    path: str | os.PathLike[str], number: int, num_frames: int = RMD17_FRAMES
) -> dict[str, np.ndarray]:
    """Reads one of the five published splits.

    Args:
      path: the public archive, the folder that it was unpacked to, or its folder `splits`.
      number: from 1 to 5.
      num_frames: how many frames the molecule has.

    Returns:
      int64 indices of the frames in "train" and "test" (1,000 each, in the public files), in the
      order of the files.

    Raises:
      FileNotFoundError: nothing is there, or the folder lacks a file.
      ValueError: the number is not one of a split.
      DataError: a line is no index, lies outside, or a frame is named twice.
    """
    if number not in RMD17_SPLITS:
        raise ValueError(f"number: expected a split from 1 to 5, got {number!r}")
    path = pathlib.Path(path)
    members = [f"splits/index_{split}_{number:02d}.csv" for split in ("train", "test")]
    if path.is_dir():
        files = [_file_in_folder(path, member) for member in members]
        contents = [file.read_bytes() for file in files]
        titles = list(map(str, files))
    else:
        contents = _archive_contents(path, members)
        titles = [f"{path}/rmd17/{member}" for member in members]
    train, test = (
        _indices(title, content, num_frames)
        for title, content in zip(titles, contents, strict=True)
    )
    common = np.intersect1d(train, test)
    if len(common):
        raise DataError(titles[1], f"frame {common[0]} is also in {titles[0]}")
    return {"train": train, "test": test}


def _frames(file: str | os.PathLike[str], arrays: dict, fingerprint: str) -> FrameSequence:
    return FrameSequence.from_arrays(
        file, arrays, RMD17_KEYS, energy_unit=EV_PER_KCAL_MOL, fingerprint=fingerprint
    )


def _file_in_folder(folder: pathlib.Path, member: str) -> pathlib.Path:
    """Whether the folder holds `rmd17`, is it, or is the one in which the file lies."""
    candidates = [folder / "rmd17" / member, folder / member, folder / pathlib.Path(member).name]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    raise FileNotFoundError(f"none of these is there: {', '.join(map(str, candidates))}")


def _archive_contents(path: pathlib.Path, members: Sequence[str]) -> list[bytes]:
    """The members below `rmd17/`, in one pass, since the archive can only be read forward."""
    wanted = {f"rmd17/{member}": member for member in members}
    contents: dict[str, bytes] = {}
    with open(path, "rb") as file:
        try:
            with tarfile.open(fileobj=file, mode="r|*") as archive:
                for entry in archive:
                    name = entry.name.removeprefix("./")
                    extracted = archive.extractfile(entry) if name in wanted else None
                    if extracted is not None:
                        contents[wanted[name]] = extracted.read()
                    if len(contents) == len(members):
                        break
        # What is raised depends on where the archive is damaged (ReadError, EOFError, OSError, ...)
        except Exception as error:
            file.seek(0)
            found = describe_format(file.read(HEAD_SIZE))
            raise DataError(
                path, f"expected a whole tar archive; this is {found}: {error}"
            ) from error
    missing = [name for name, member in wanted.items() if member not in contents]
    if missing:
        raise DataError(path, f"lacks {missing}")
    return [contents[member] for member in members]


def _indices(title: str, content: bytes, num_frames: int) -> np.ndarray:
    """One index on each line."""
    lines = content.decode("utf-8", errors="replace").split()
    indices = np.empty(len(lines), np.int64)
    for row, text in enumerate(lines):
        if not text.isdecimal() or int(text) >= num_frames:
            raise DataError(
                title,
                f"expected an index from 0 to {num_frames - 1}, got {text!r}",
                record=f"line {row + 1}",
            )
        indices[row] = int(text)
    if len(indices) == 0:
        raise DataError(title, "no indices")
    values, counts = np.unique(indices, return_counts=True)
    if counts.max() > 1:
        raise DataError(title, f"frame {values[counts > 1][0]} is named more than once")
    return indices

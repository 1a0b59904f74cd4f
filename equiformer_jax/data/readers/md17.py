"""MD17: trajectories of small molecules in the gas phase, and their coupled-cluster subsets.

One `.npz` file for each molecule with `E` (M, 1) in kcal/mol, `F` (M, n, 3) in kcal/mol/Å, `R`
(M, n, 3) in Å and `z` (n,). The frames of a file are in order of time.
"""

from __future__ import annotations

import io
import os
import pathlib
import zipfile
from collections.abc import Iterable

from equiformer_jax.data.errors import DataError
from equiformer_jax.data.readers.file_format import HEAD_SIZE, describe_format
from equiformer_jax.data.readers.frames import FrameKeys, FrameSequence
from equiformer_jax.data.readers.npz_file import read_npz, read_npz_content
from equiformer_jax.data.structures import file_fingerprint
from equiformer_jax.data.units import EV_PER_KCAL_MOL

# Archives with the energies and forces of coupled-cluster theory, 1,500 to 2,000 frames in all,
# each with a training and a test file.
MD17_COUPLED_CLUSTER_FILES = {
    "aspirin_ccsd": "aspirin_ccsd.zip",
    "benzene_ccsd_t": "benzene_ccsd_t.zip",
    "ethanol_ccsd_t": "ethanol_ccsd_t.zip",
    "malonaldehyde_ccsd_t": "malonaldehyde_ccsd_t.zip",
    "toluene_ccsd_t": "toluene_ccsd_t.zip",
}

# Every file of the data set by the name that the molecule has here; the first eight are the
# molecules of the paper's table.
MD17_FILES = {
    "aspirin": "md17_aspirin.npz",
    "benzene": "md17_benzene2017.npz",
    "ethanol": "md17_ethanol.npz",
    "malonaldehyde": "md17_malonaldehyde.npz",
    "naphthalene": "md17_naphthalene.npz",
    "salicylic_acid": "md17_salicylic.npz",
    "toluene": "md17_toluene.npz",
    "uracil": "md17_uracil.npz",
    "paracetamol": "paracetamol_dft.npz",
    "azobenzene": "azobenzene_dft.npz",
    "benzene2018": "benzene2018_dft.npz",
    **MD17_COUPLED_CLUSTER_FILES,
}

MD17_KEYS = FrameKeys(atomic_numbers="z", positions="R", energies="E", forces="F")

_SPLITS = ("train", "test")


def read_md17(path: str | os.PathLike[str]) -> FrameSequence:
    """Reads an `.npz` file in MD17's layout.

    Args:
      path: such as `md17_aspirin.npz`.

    Returns:
      Its frames in their order, converted to Å, eV and eV/Å.

    Raises:
      FileNotFoundError: the file is not there.
      DataError: it is not such a file, or its contents do not fit each other.
    """
    arrays = read_npz(path, MD17_KEYS.names)
    return FrameSequence.from_arrays(
        path,
        arrays,
        MD17_KEYS,
        energy_unit=EV_PER_KCAL_MOL,
        fingerprint=file_fingerprint(path),
    )


def read_md17_coupled_cluster(path: str | os.PathLike[str]) -> dict[str, FrameSequence]:
    """Reads a CCSD or CCSD(T) set.

    Args:
      path: an archive such as `aspirin_ccsd.zip`, or the folder that it was unpacked to. It holds
        one file `<name>-train.npz` and one `<name>-test.npz` in MD17's layout.

    Returns:
      The frames of "train" and "test", converted to Å, eV and eV/Å.

    Raises:
      FileNotFoundError: nothing is there.
      DataError: one of the files is missing, there are several, or one cannot be read.
    """
    path = pathlib.Path(path)
    if path.is_dir():
        files = sorted(file.name for file in path.glob("*.npz"))
        return {split: read_md17(path / _member_of(path, files, split)) for split in _SPLITS}
    contents = _archive_contents(path)
    return {
        split: _frames_of_member(path, _member_of(path, contents, split), contents)
        for split in _SPLITS
    }


def _archive_contents(path: pathlib.Path) -> dict[str, bytes]:
    """The `.npz` members of a zip archive."""
    with open(path, "rb") as file:
        try:
            with zipfile.ZipFile(file) as archive:
                names = [name for name in archive.namelist() if name.endswith(".npz")]
                # Archives made on a Mac carry a shadow of each file in a folder of this name.
                names = [name for name in names if not name.startswith("__MACOSX/")]
                return {name: archive.read(name) for name in names}
        # What is raised depends on where the archive is damaged (BadZipFile, zlib.error, ...).
        except Exception as error:
            file.seek(0)
            found = describe_format(file.read(HEAD_SIZE))
            raise DataError(
                path, f"expected a whole zip archive; this is {found}: {error}"
            ) from error


def _member_of(path: pathlib.Path, names: Iterable[str], split: str) -> str:
    """The one name `<name>-<split>.npz`."""
    found = [name for name in names if name.endswith(f"-{split}.npz")]
    if len(found) != 1:
        raise DataError(path, f"expected one file <name>-{split}.npz, found {found or list(names)}")
    return found[0]


def _frames_of_member(path: pathlib.Path, name: str, contents: dict[str, bytes]) -> FrameSequence:
    title = f"{path}/{name}"
    arrays = read_npz_content(io.BytesIO(contents[name]), MD17_KEYS.names, title)
    return FrameSequence.from_arrays(
        title,
        arrays,
        MD17_KEYS,
        energy_unit=EV_PER_KCAL_MOL,
        fingerprint=file_fingerprint(path, name),
    )

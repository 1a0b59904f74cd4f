"""MD22: trajectories of large molecules and complexes, from 42 to 370 atoms.

Published as `.npz` files in MD17's layout and as `.xyz` text; both hold kcal/mol and kcal/mol/Å.
"""

from __future__ import annotations

import os
import pathlib
from typing import NamedTuple

from equiformer_jax.data.readers.frames import FrameSequence
from equiformer_jax.data.readers.md17 import read_md17
from equiformer_jax.data.readers.md22_xyz import read_md22_xyz


class Md22System(NamedTuple):
    """One trajectory of the data set.

    Attributes:
      num_atoms: atoms of the system.
      num_frames: frames of the public file.
      files: the names under which the file is offered.
    """

    num_atoms: int
    num_frames: int
    files: tuple[str, ...]


# By the names of the public files.
MD22_SYSTEMS = {
    "Ac-Ala3-NHMe": Md22System(42, 85_109, ("md22_Ac-Ala3-NHMe.npz",)),
    "DHA": Md22System(56, 69_753, ("md22_DHA.npz",)),
    "stachyose": Md22System(87, 27_272, ("md22_stachyose.npz",)),
    "AT-AT": Md22System(60, 20_001, ("md22_AT-AT.npz",)),
    "AT-AT-CG-CG": Md22System(118, 10_153, ("md22_AT-AT-CG-CG.npz",)),
    "buckyball-catcher": Md22System(148, 6_102, ("md22_buckyball-catcher.npz",)),
    "double-walled_nanotube": Md22System(
        370, 5_032, ("md22_double-walled_nanotube.npz", "md22_dw_nanotube.npz")
    ),
}


def read_md22(path: str | os.PathLike[str]) -> FrameSequence:
    """Reads one of MD22's files.

    Args:
      path: a file named `.xyz` is read as text, any other as `.npz`.

    Returns:
      Its frames in their order, converted to Å, eV and eV/Å; the same from both formats.

    Raises:
      FileNotFoundError: the file is not there.
      DataError: it is not such a file, or its contents do not fit each other.
    """
    is_text = pathlib.Path(path).suffix in (".xyz", ".extxyz")
    return read_md22_xyz(path) if is_text else read_md17(path)

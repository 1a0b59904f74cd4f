"""MD22's `.xyz` files, whose comment lines say `Energy=` in kcal/mol.

They are not what ASE would take them for: ASE reads `energy` and `forces` as eV and eV/Å, so that
the forces would come out 23 times too large, and `Energy`, written with a capital, as a remark.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from typing import TextIO

import ase
import numpy as np
from ase.io.extxyz import read_xyz

from equiformer_jax.data.errors import DataError
from equiformer_jax.data.readers.file_format import HEAD_SIZE, describe_format
from equiformer_jax.data.readers.frames import FrameKeys, FrameSequence
from equiformer_jax.data.readers.labeled_atoms import describe_failure
from equiformer_jax.data.structures import file_fingerprint
from equiformer_jax.data.units import EV_PER_KCAL_MOL

MD22_XYZ_KEYS = FrameKeys(
    atomic_numbers="species", positions="pos", energies="Energy", forces="forces"
)


def read_md22_xyz(path: str | os.PathLike[str]) -> FrameSequence:
    """Reads frames of one molecule with comment lines of the following form.

    `Energy=-620726.0 Properties=species:S:1:pos:R:3:forces:R:3`

    Args:
      path: the file.

    Returns:
      Its frames in their order, converted to Å, eV and eV/Å.

    Raises:
      FileNotFoundError: the file is not there.
      DataError: it is not such a file; names the frame.
    """
    numbers, positions, energies, forces = np.empty(0, int), [], [], []
    with open(path, encoding="utf-8", errors="replace") as file:
        for frame, text in enumerate(_frame_texts(path, file)):
            atoms = _atoms(path, frame, text)
            if frame == 0:
                numbers = atoms.numbers
            if not np.array_equal(atoms.numbers, numbers):
                raise _error(path, frame, "species", "not the atoms of frame 0, in their order")
            positions.append(atoms.positions)
            energies.append(_energy(path, frame, atoms))
            forces.append(_forces(path, frame, atoms))
    if not positions:
        raise DataError(path, "no frames")
    return FrameSequence(
        path,
        numbers,
        np.stack(positions),
        np.array(energies),
        np.stack(forces),
        energy_unit=EV_PER_KCAL_MOL,
        keys=MD22_XYZ_KEYS,
        fingerprint=file_fingerprint(path),
    )


def _frame_texts(path: str | os.PathLike[str], file: TextIO) -> Iterator[str]:
    """The lines of each frame; cut here and not by ASE, so that an error can name the frame."""
    frame = 0
    while line := file.readline():
        if not line.strip():
            continue
        if not line.strip().isdecimal():
            with open(path, "rb") as content:
                found = describe_format(content.read(HEAD_SIZE))
            raise _error(
                path,
                frame,
                None,
                f"expected the number of atoms, got {line.rstrip()[:60]!r} (this is {found})",
            )
        num_atoms = int(line)
        lines = [line, file.readline()]
        for atom in range(num_atoms):
            lines.append(file.readline())
            if not lines[-1].strip():
                raise _error(path, frame, None, f"ends after {atom} of {num_atoms} atoms")
        yield "".join(lines)
        frame += 1


def _atoms(path: str | os.PathLike[str], frame: int, text: str) -> ase.Atoms:
    try:
        (atoms,) = read_xyz(io.StringIO(text), 0)
        return atoms
    # ASE raises whatever happens on the way (KeyError for an unknown element, XYZError, ...).
    except Exception as error:
        message = f"not a frame of an extxyz file: {describe_failure(error)}"
        raise _error(path, frame, None, message) from error


def _energy(path: str | os.PathLike[str], frame: int, atoms: ase.Atoms) -> float:
    energy = atoms.info.get("Energy")
    if not isinstance(energy, int | float | np.number):
        results = getattr(atoms.calc, "results", {})
        found = [*atoms.info, *(key for key in results if key == "energy")]
        value = f"the value {energy!r}" if energy is not None else f"the keys {found}"
        message = f"expected the energy in kcal/mol in the comment line, found {value}"
        raise _error(path, frame, "Energy", message)
    return float(energy)


def _forces(path: str | os.PathLike[str], frame: int, atoms: ase.Atoms) -> np.ndarray:
    forces = getattr(atoms.calc, "results", {}).get("forces")
    if forces is None:
        message = "missing; expected Properties=species:S:1:pos:R:3:forces:R:3"
        raise _error(path, frame, "forces", message)
    return np.asarray(forces)


def _error(path: str | os.PathLike[str], frame: int, field: str | None, message: str) -> DataError:
    return DataError(path, message, record=f"frame {frame}", field=field)

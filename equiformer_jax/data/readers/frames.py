"""Frames of one molecule: the layout that all trajectory files share."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping

import numpy as np

from equiformer_jax.data.errors import DataError
from equiformer_jax.data.structures import StructureSequence
from equiformer_jax.structure import LARGEST_ATOMIC_NUMBER, Structure


@dataclasses.dataclass(frozen=True)
class FrameKeys:
    """What a file calls the four arrays; messages use these names.

    Attributes:
      atomic_numbers: `[n]`, one for each atom.
      positions: `[M, n, 3]`, one row for each frame.
      energies: `[M]` or `[M, 1]`.
      forces: `[M, n, 3]`.
    """

    atomic_numbers: str = "atomic_numbers"
    positions: str = "positions"
    energies: str = "energies"
    forces: str = "forces"

    @property
    def names(self) -> tuple[str, str, str, str]:
        """All four."""
        return self.atomic_numbers, self.positions, self.energies, self.forces


class FrameSequence(StructureSequence):
    """M frames of one molecule of n atoms.

    Positions and forces stay as they are stored, the forces also in their unit: a trajectory may
    have a million frames, and each is converted when it is asked for. A structure's `properties`
    hold its number in the file as `frame`.

    Attributes:
      atomic_numbers: int32 `[n]`.
      energies: float64 `[M]`, eV.
    """

    def __init__(
        self,
        file: str | os.PathLike[str],
        atomic_numbers: np.ndarray,
        positions: np.ndarray,
        energies: np.ndarray,
        forces: np.ndarray | None = None,
        *,
        energy_unit: float = 1.0,
        keys: FrameKeys | None = None,
        fingerprint: str,
    ) -> None:
        """Checks the arrays and keeps them, without a copy of positions and forces.

        Args:
          file: where the frames come from, for messages.
          atomic_numbers: `[n]`, whole numbers from 1 to 118.
          positions: `[M, n, 3]`, Å.
          energies: `[M]` or `[M, 1]`, in the energy unit.
          forces: `[M, n, 3]`, in the energy unit per Å.
          energy_unit: eV per energy unit of the file.
          keys: what the file calls the arrays.
          fingerprint: see `StructureSequence.fingerprint`.

        Raises:
          DataError: shapes do not fit each other, a value is not finite, or an element is unknown;
            names the array, and the frame or atom.
        """
        self._file, self._unit, self._fingerprint = os.fspath(file), energy_unit, fingerprint
        keys = keys or FrameKeys()
        positions = np.asarray(positions)
        _check_shape(file, keys.positions, positions, ("M", "n", 3))
        num_frames, num_atoms, _ = positions.shape
        if num_frames == 0 or num_atoms == 0:
            raise DataError(file, f"{num_frames} frames of {num_atoms} atoms", field=keys.positions)
        self.atomic_numbers = _elements(file, keys.atomic_numbers, atomic_numbers, num_atoms)
        energies = np.asarray(energies)
        if energies.shape == (num_frames, 1):
            energies = energies[:, 0]
        _check_shape(file, keys.energies, energies, (num_frames,))
        _check_finite(file, keys.positions, positions)
        _check_finite(file, keys.energies, energies)
        if forces is not None:
            forces = np.asarray(forces)
            _check_shape(file, keys.forces, forces, (num_frames, num_atoms, 3))
            _check_finite(file, keys.forces, forces)
        self._positions, self._forces = positions, forces
        self.energies = energies.astype(np.float64) * energy_unit
        self.energies.flags.writeable = False

    @classmethod
    def from_arrays(
        cls,
        file: str | os.PathLike[str],
        arrays: Mapping[str, np.ndarray],
        keys: FrameKeys,
        *,
        energy_unit: float,
        fingerprint: str,
    ) -> FrameSequence:
        """As the constructor, from the arrays of a file by the names that it has for them.

        Args:
          file: for messages.
          arrays: at least those of `keys`.
          keys: what the file calls the arrays.
          energy_unit: eV per energy unit of the file.
          fingerprint: see `StructureSequence.fingerprint`.

        Raises:
          DataError: as the constructor.
        """
        values = (arrays[name] for name in keys.names)
        return cls(file, *values, energy_unit=energy_unit, keys=keys, fingerprint=fingerprint)

    def __len__(self) -> int:
        return len(self._positions)

    def structure(self, index: int) -> Structure:
        """Frame `index`: Å, eV, eV/Å."""
        forces = None
        if self._forces is not None:
            forces = self._forces[index].astype(np.float64) * self._unit
        return Structure(
            positions=self._positions[index],
            atomic_numbers=self.atomic_numbers,
            energy=self.energies[index],
            forces=forces,
            properties={"frame": int(index)},
        )

    def name_of(self, index: int) -> str:
        """`file: frame index`."""
        return f"{self._file}: frame {index}"

    @property
    def fingerprint(self) -> str:
        """The one that the reader gave."""
        return self._fingerprint


def _check_shape(
    file: str | os.PathLike[str], key: str, array: np.ndarray, expected: tuple[int | str, ...]
) -> None:
    """Numbers of the expected shape; a letter in it stands for any size."""
    if array.dtype.kind not in "fiu":
        raise DataError(file, f"expected real numbers, got the type {array.dtype}", field=key)
    fits = array.ndim == len(expected) and all(
        isinstance(size, str) or size == found
        for size, found in zip(expected, array.shape, strict=True)
    )
    if not fits:
        shape = "[" + ", ".join(map(str, expected)) + "]"
        raise DataError(file, f"expected shape {shape}, got {list(array.shape)}", field=key)


def _check_finite(file: str | os.PathLike[str], key: str, array: np.ndarray) -> None:
    finite = np.isfinite(array)
    if not finite.all():
        frame, *place = (int(number) for number in np.argwhere(~finite)[0])
        atom = f" for atom {place[0]}" if place else ""
        value = array[(frame, *place)]
        raise DataError(file, f"not finite{atom}: {value}", record=f"frame {frame}", field=key)


def _elements(
    file: str | os.PathLike[str], key: str, values: np.ndarray, num_atoms: int
) -> np.ndarray:
    values = np.asarray(values)
    _check_shape(file, key, values, (num_atoms,))
    wrong = np.flatnonzero(
        ~((values >= 1) & (values <= LARGEST_ATOMIC_NUMBER)) | (values != np.trunc(values))
    )
    if len(wrong):
        raise DataError(
            file,
            f"atom {wrong[0]}: expected an atomic number from 1 to {LARGEST_ATOMIC_NUMBER}, "
            f"got {values[wrong[0]]}",
            field=key,
        )
    numbers = values.astype(np.int32)
    numbers.flags.writeable = False
    return numbers

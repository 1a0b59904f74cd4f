"""Structures of a few atoms, and sequences of them that misbehave."""

from __future__ import annotations

import numpy as np

from equiformer_jax import Structure
from equiformer_jax.data.errors import DataError
from equiformer_jax.data.structures import StructureList

OFFSET = -17000.0  # eV; total energies are this large, and float32 is coarse there
CUTOFF = 4.0


def molecules(count=22, seed=0):
    """Labeled chains of 3 to 6 atoms; the force of every atom is the index of its structure."""
    generator = np.random.default_rng(seed)
    structures = []
    for index in range(count):
        atoms = 3 + index % 4
        positions = np.arange(atoms)[:, None] + 0.1 * generator.normal(size=(atoms, 3))
        structures.append(
            Structure(
                positions,
                generator.integers(1, 10, atoms),
                energy=OFFSET + 1e-4 * index,
                forces=np.full((atoms, 3), float(index)),
            )
        )
    return structures


def slabs(count=7, seed=0):
    """Periodic structures of 2 to 5 atoms with everything that a structure may know."""
    generator = np.random.default_rng(seed)
    return [
        Structure(
            generator.uniform(0, 4, (atoms, 3)),
            generator.integers(1, 100, atoms),
            cell=np.diag([4.0, 5.0, 6.0]) + generator.uniform(-0.3, 0.3, (3, 3)),
            pbc=True,
            energy=generator.normal() - 300,
            forces=generator.normal(size=(atoms, 3)),
            stress=generator.normal(size=(3, 3)),
            tags=generator.integers(0, 3, atoms),
            relaxed_positions=generator.normal(size=(atoms, 3)),
            relaxed_energy=generator.normal() - 300,
            fixed=generator.random(atoms) < 0.5,
        )
        for atoms in generator.integers(2, 6, count).tolist()
    ]


class WithBrokenRecord(StructureList):
    """One of its records cannot be read."""

    def __init__(self, structures, broken):
        super().__init__(structures, "broken.npz")
        self.broken = broken

    def structure(self, index):
        if index == self.broken:
            raise DataError("broken.npz", "not finite", record=index, field="F")
        return super().structure(index)

"""Systems of the sizes and densities of the public data sets, made up where need be."""

from __future__ import annotations

from collections.abc import Callable

import ase.build
import numpy as np

from equiformer_jax.data.embedded.aspirin import load_embedded_aspirin
from equiformer_jax.structure import Structure
from experiments.tpu.sizes import SYSTEMS

Maker = Callable[[int], list[Structure]]


def aspirin(count: int) -> list[Structure]:
    """Frames of the embedded data set: 21 atoms, about 304 edges within 5 Å."""
    return load_embedded_aspirin()["train"][:count]


def chains(num_atoms: int) -> Maker:
    """Makes long molecules of so many atoms with 22 neighbors each, as in MD22's AT-AT."""

    def make(count: int) -> list[Structure]:
        generator = np.random.default_rng(0)
        return [_molecule(generator, num_atoms, half_width=1.2, gap=1.3) for _ in range(count)]

    return make


def md22_system(name: str) -> Maker:
    """Makes systems of as many atoms as one of MD22, at least as dense."""
    if name == "double-walled_nanotube":
        return double_walled_nanotube
    atoms = SYSTEMS[name].atoms

    def make(count: int) -> list[Structure]:
        generator = np.random.default_rng(0)
        return [_molecule(generator, atoms, half_width=1.8, gap=1.3) for _ in range(count)]

    return make


def qm9_like(count: int) -> list[Structure]:
    """Molecules of 3 to 29 atoms, 18 on average, with as many edges as those of QM9."""
    generator = np.random.default_rng(0)
    sizes = np.clip(np.rint(generator.normal(18, 3, count)), 3, 29).astype(int)
    return [_molecule(generator, size) for size in sizes]


def slabs(count: int) -> list[Structure]:
    """Surfaces of 80 platinum atoms, shaken, periodic as in OC20."""
    generator = np.random.default_rng(0)
    return [_slab(generator) for _ in range(count)]


def double_walled_nanotube(count: int) -> list[Structure]:
    """Two nested carbon nanotubes of 370 atoms in all, as many as in MD22's."""
    atoms = ase.build.nanotube(6, 0, length=5) + ase.build.nanotube(15, 0, length=5)
    atoms.positions -= atoms.positions.mean(axis=0)
    atoms = atoms[np.argsort(np.abs(atoms.positions[:, 2]), kind="stable")[:370]]
    generator = np.random.default_rng(0)
    return [
        Structure(
            atoms.positions + generator.normal(0, 0.05, atoms.positions.shape),
            atoms.numbers,
            energy=generator.normal(),
            forces=generator.normal(size=atoms.positions.shape),
        )
        for _ in range(count)
    ]


def _molecule(
    generator: np.random.Generator, num_atoms: int, half_width: float = np.inf, gap: float = 0.95
) -> Structure:
    """Atoms bonded at random, none closer than `gap`, all within `half_width` of the z axis (Å)."""
    positions = np.zeros((1, 3))
    while len(positions) < num_atoms:
        direction = generator.normal(size=3)
        bond = 1.35 * direction / np.linalg.norm(direction)
        candidate = positions[generator.integers(len(positions))] + bond
        if np.abs(candidate[:2]).max() > half_width:
            continue
        if np.linalg.norm(positions - candidate, axis=1).min() > gap:
            positions = np.vstack([positions, candidate])
    return Structure(
        positions,
        generator.choice([1, 6, 7, 8, 9], num_atoms),
        energy=generator.normal(),
        forces=generator.normal(size=(num_atoms, 3)),
    )


def _slab(generator: np.random.Generator) -> Structure:
    atoms = ase.build.fcc111("Pt", size=(4, 4, 5), vacuum=10.0)
    count = len(atoms)
    return Structure(
        atoms.positions + generator.normal(0, 0.1, (count, 3)),
        atoms.numbers,
        cell=np.array(atoms.cell),
        pbc=(True, True, True),
        energy=generator.normal(),
        forces=generator.normal(size=(count, 3)),
        tags=generator.integers(0, 3, count),
    )

"""Random systems of a few atoms, far from every discontinuity of the model, and their graphs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jraph
import numpy as np
from scipy.spatial.transform import Rotation

import equiformer_jax as eqf
from equiformer_jax.neighbors import neighbor_list

ELEMENTS = (1, 6, 7, 8)
SHAPES = ("cloud", "plane", "line", "grid")
MOLECULE_CUTOFF = 5.0
CRYSTAL_CUTOFF = 3.5
SMALLEST_DISTANCE = 0.7
MARGIN = 1e-3  # no pair is this close to the cutoff, where the published model jumps


class System(NamedTuple):
    """One molecule or crystal of `n` atoms, with everything that any model reads.

    Attributes:
      positions: `[n, 3]` in angstrom.
      atomic_numbers: `[n]`.
      tags: `[n]`, read by OC20's models.
      force_input: `[n, 3]`, read by DeNS models at the atoms of `noise_mask`.
      noise_mask: `[n]` bool.
      cell: `[3, 3]` in angstrom, or `None` for a molecule.
    """

    positions: np.ndarray
    atomic_numbers: np.ndarray
    tags: np.ndarray
    force_input: np.ndarray
    noise_mask: np.ndarray
    cell: np.ndarray | None = None

    @property
    def size(self) -> int:
        """The number of atoms."""
        return len(self.positions)

    def mapped(self, matrix: np.ndarray) -> System:
        """The system after a linear map: a rotation, an inversion, a strain."""
        return self._replace(
            positions=self.positions @ matrix.T,
            force_input=self.force_input @ matrix.T,
            cell=None if self.cell is None else self.cell @ matrix.T,
        )

    def reordered(self, order: np.ndarray) -> System:
        """The same atoms in another order."""
        per_atom = {name: getattr(self, name)[order] for name in self._fields if name != "cell"}
        return self._replace(**per_atom)

    def moved(self, displacement: np.ndarray) -> System:
        """Atoms displaced by `[3]` or `[n, 3]`."""
        return self._replace(positions=self.positions + displacement)


class Budget(NamedTuple):
    """The fixed sizes of a padded batch."""

    n_node: int
    n_edge: int
    n_graph: int


# Room for two systems of up to six atoms, or for one crystal repeated once.
MOLECULES = Budget(n_node=15, n_edge=66, n_graph=4)
CRYSTALS = Budget(n_node=15, n_edge=180, n_graph=4)


def system_of(positions: Any, atomic_numbers: Any = None, cell: Any = None) -> System:
    """A system at given positions; carbon, tags 0, 1, 2 in turn and no force input by default."""
    positions = np.array(positions, float)
    size = len(positions)
    return System(
        positions,
        np.full(size, 6) if atomic_numbers is None else np.array(atomic_numbers),
        np.arange(size) % 3,
        np.zeros((size, 3)),
        np.zeros(size, bool),
        None if cell is None else np.array(cell, float),
    )


def random_system(
    generator: np.random.Generator, periodic: bool, shape: str = "cloud", size: int | None = None
) -> System:
    """A molecule or crystal of three to six atoms, drawn until its distances are acceptable."""
    size = generator.integers(3, 7) if size is None else size
    while True:
        cell = _random_cell(generator) if periodic else None
        positions = _random_positions(generator, size, shape, cell)
        if _acceptable(positions, cell):
            break
    return System(
        positions,
        generator.choice(ELEMENTS, size),
        generator.integers(0, 3, size),
        generator.normal(size=(size, 3)),
        generator.random(size) < 0.5,
        cell,
    )


def random_rotation(generator: np.random.Generator) -> np.ndarray:
    """A rotation matrix `[3, 3]`; every other one only permutes and flips the axes."""
    if generator.random() < 0.5:
        return Rotation.random(rng=generator).as_matrix()
    return np.round(Rotation.create_group("O")[generator.integers(24)].as_matrix())


def graph_of(system: System, cutoff: float) -> jraph.GraphsTuple:
    """The graph of one system, with all inputs that any model reads."""
    lattice = {} if system.cell is None else {"cell": system.cell, "pbc": (True, True, True)}
    structure = eqf.Structure(system.positions, system.atomic_numbers, tags=system.tags, **lattice)
    graph = eqf.build_graph(structure, cutoff)
    denoising = {"force_input": system.force_input, "noise_mask": system.noise_mask}
    return graph._replace(nodes={**graph.nodes, **denoising})


def batch_of(systems: Sequence[System], cutoff: float, budget: Budget) -> jraph.GraphsTuple:
    """One padded batch of systems."""
    return eqf.batch_graphs([graph_of(system, cutoff) for system in systems], *budget)


def shuffle_edges(graph: jraph.GraphsTuple, generator: np.random.Generator) -> jraph.GraphsTuple:
    """Another order of the edges of each receiver; receivers stay ascending."""
    order = np.lexsort((generator.random(len(graph.receivers)), graph.receivers))
    return graph._replace(
        senders=graph.senders[order],
        receivers=graph.receivers[order],
        edges={name: values[order] for name, values in graph.edges.items()},
    )


def _random_cell(generator: np.random.Generator) -> np.ndarray:
    """A skewed cell, shorter than the cutoff along its first vector: atoms see their own images."""
    return np.diag([3.0, 4.6, 5.5]) + generator.uniform(-0.4, 0.4, (3, 3))


def _random_positions(
    generator: np.random.Generator, size: int, shape: str, cell: np.ndarray | None
) -> np.ndarray:
    if cell is not None:
        return generator.random((size, 3)) @ cell
    if shape == "grid":  # edges exactly along the axes, and at right angles to each other
        return generator.integers(0, 4, (size, 3)).astype(float)
    length, kept = {"cloud": (4.5, 3), "plane": (5.5, 2), "line": (2.0 * size, 1)}[shape]
    positions = generator.uniform(0, length, (size, 3))
    positions[:, kept:] = 0
    return positions @ random_rotation(generator).T


def _acceptable(positions: np.ndarray, cell: np.ndarray | None) -> bool:
    cutoff = MOLECULE_CUTOFF if cell is None else CRYSTAL_CUTOFF
    lattice = {} if cell is None else {"cell": cell, "pbc": (True, True, True)}
    edges = neighbor_list(eqf.Structure(positions, [6] * len(positions), **lattice), cutoff + 1)
    shifts = 0 if cell is None else edges.shifts @ cell
    vectors = positions[edges.senders] - positions[edges.receivers] + shifts
    distances = np.linalg.norm(vectors, axis=-1)
    budget = MOLECULES if cell is None else CRYSTALS
    return bool(
        (distances > SMALLEST_DISTANCE).all()
        and (np.abs(distances - cutoff) > MARGIN).all()
        and 0 < (distances < cutoff).sum() <= budget.n_edge // 2
    )

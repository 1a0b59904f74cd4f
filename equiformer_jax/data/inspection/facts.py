"""One pass over a split: a few numbers for each structure, from which everything else follows."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator

import numpy as np

from equiformer_jax.data.structures import StructureSequence, digest
from equiformer_jax.neighbors import neighbor_list, shortest_distance
from equiformer_jax.structure import LARGEST_ATOMIC_NUMBER, Structure

# Copies of a structure may differ in the last digits: positions are compared on a grid of this
# width, Å.
_GRID = 1e-3


@dataclasses.dataclass(frozen=True)
class StructureFacts:
    """Numbers of one structure.

    Attributes:
      index: its place in the split.
      name: file and record.
      composition: int64 `[119]`, how many atoms of each atomic number.
      num_edges: edges within the cutoff.
      isolated: atoms without a neighbor.
      shortest_distance: Å, of the closest two atoms within the cutoff; infinite where there are
        none.
      closest_pair: their indices.
      energy: eV, or `nan` without a label.
      force_rms: root mean square of a force component, eV/Å, or `nan`.
      net_force: norm of the sum of the forces, eV/Å, or `nan`.
      contents: digests by which copies of the structure are found; copies share one at least.
    """

    index: int
    name: str
    composition: np.ndarray
    num_edges: int
    isolated: int
    shortest_distance: float
    closest_pair: tuple[int, int]
    energy: float
    force_rms: float
    net_force: float
    contents: tuple[str, str]

    @property
    def num_atoms(self) -> int:
        """The number of atoms."""
        return int(self.composition.sum())


def facts_of(
    structure: Structure,
    index: int,
    name: str,
    cutoff: float,
    max_neighbors: int | None = None,
) -> StructureFacts:
    """Looks at one structure.

    Args:
      structure: any structure.
      index: its place in the split.
      name: what to call it.
      cutoff: Å, that of the model.
      max_neighbors: the most edges of an atom, those of the model.
    """
    edges = neighbor_list(structure, cutoff, max_neighbors)
    closest = shortest_distance(structure, cutoff) or (np.inf, -1, -1)
    forces = structure.forces
    return StructureFacts(
        index=index,
        name=name,
        composition=np.bincount(structure.atomic_numbers, minlength=LARGEST_ATOMIC_NUMBER + 1),
        num_edges=len(edges.senders),
        isolated=structure.num_atoms - len(np.unique(edges.receivers)),
        shortest_distance=closest[0],
        closest_pair=(closest[1], closest[2]),
        energy=np.nan if structure.energy is None else structure.energy,
        force_rms=np.nan if forces is None else float(np.sqrt(np.mean(forces**2))),
        net_force=np.nan if forces is None else float(np.linalg.norm(forces.sum(axis=0))),
        contents=_contents(structure),
    )


def _contents(structure: Structure) -> tuple[str, str]:
    """Digests of elements, lattice and centered positions on two grids, shifted by half a width.

    Numbers that differ by rounding to single precision fall into one cell of at least one of the
    two, nearly always; those that were rounded to a few decimals may not.
    """
    centered = structure.positions - structure.positions.mean(axis=0)
    cell = b"" if structure.cell is None else np.round(structure.cell / _GRID).tobytes()
    first, second = (
        digest(
            structure.atomic_numbers.tobytes(),
            cell,
            np.floor(centered / _GRID + offset).astype(np.int64).tobytes(),
        )
        for offset in (0.0, 0.5)
    )
    return first, second


class SplitFacts:
    """The facts of a whole split.

    Attributes:
      split: name of the split.
      size: structures in the split; more than were looked at if a sample was asked for.
      facts: those of the structures that could be read, in order.
      unreadable: messages of those that could not.
    """

    def __init__(
        self,
        split: str,
        structures: StructureSequence,
        cutoff: float,
        max_neighbors: int | None = None,
        sample: int | None = None,
    ) -> None:
        """Reads the split.

        Args:
          split: its name.
          structures: its structures.
          cutoff: Å.
          max_neighbors: the most edges of an atom.
          sample: look at so many structures only, evenly spread; `None` for all.
        """
        self.split, self.size = split, len(structures)
        self.facts: list[StructureFacts] = []
        self.unreadable: list[str] = []
        for index in _spread(len(structures), sample):
            try:
                structure = structures[index]
            except ValueError as error:
                self.unreadable.append(str(error))
                continue
            name = structures.name_of(index)
            self.facts.append(facts_of(structure, index, name, cutoff, max_neighbors))

    def __len__(self) -> int:
        return len(self.facts)

    def __iter__(self) -> Iterator[StructureFacts]:
        return iter(self.facts)

    def column(self, name: str) -> np.ndarray:
        """`[n]`, one attribute of all structures."""
        return np.array([getattr(fact, name) for fact in self.facts])

    @functools.cached_property
    def composition(self) -> np.ndarray:
        """int64 `[119]`, atoms of each atomic number in the whole split."""
        return np.sum([fact.composition for fact in self.facts], axis=0, initial=0)


def _spread(size: int, sample: int | None) -> list[int]:
    if sample is None or sample >= size:
        return list(range(size))
    return np.unique(np.linspace(0, size - 1, sample).astype(int)).tolist()

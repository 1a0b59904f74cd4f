"""Changes that a training makes to a structure each time it is drawn.

They are functions of a structure and a random generator, made before the neighbor list, since they
move atoms. Each returns the changed structure and further node arrays for its graph.
"""

from __future__ import annotations

import dataclasses
from typing import Protocol

import numpy as np

from equiformer_jax.structure import Structure

NodeArrays = dict[str, np.ndarray]


class Augmentation(Protocol):
    """What `pipeline` calls for every structure of every epoch."""

    def __call__(
        self, structure: Structure, generator: np.random.Generator
    ) -> tuple[Structure, NodeArrays]:
        """The changed structure, and node arrays `[N, ...]` to put into its graph."""
        ...


@dataclasses.dataclass(frozen=True)
class RelaxationInterpolation:
    """Positions between the initial and the relaxed ones, with noise (SPEC §8.4).

    A structure is changed with probability `probability`. Then each atom with a tag above 0 moves
    to

        f x_initial + (1 - f) x_relaxed + n,   f ~ U(0, 1) per atom,   n ~ N(0, noise^2)

    The displacement that the auxiliary head learns, from the positions to the relaxed ones, is read
    off the graph and follows.

    Attributes:
      probability: of changing a structure.
      noise: standard deviation of each component of `n`, Å.
    """

    probability: float = 0.5
    noise: float = 0.3

    def __call__(
        self, structure: Structure, generator: np.random.Generator
    ) -> tuple[Structure, NodeArrays]:
        """Interpolates.

        Raises:
          ValueError: the structure has no tags or no relaxed positions; names the field.
        """
        start, end, tags = structure.positions, structure.relaxed_positions, structure.tags
        if end is None or tags is None:
            missing = "tags" if tags is None else "relaxed_positions"
            raise ValueError(f"{missing}: needed to interpolate to the relaxed positions")
        if generator.random() >= self.probability:
            return structure, {}
        share = generator.random((structure.num_atoms, 1))
        moved = share * start + (1 - share) * end + generator.normal(0, self.noise, start.shape)
        moves = tags[:, None] > 0
        return dataclasses.replace(structure, positions=np.where(moves, moved, start)), {}


@dataclasses.dataclass(frozen=True)
class DenoisingCorruption:
    """Noise on some atoms of some structures, whose forces the model is told (DeNS, SPEC §9).

    A structure is selected with probability `probability`, each of its atoms with probability
    `atom_share`. Selected atoms move by `e ~ N(0, std^2)` and carry their force, in units of
    `force_unit`, as an input; the model learns to find `e / std`.

    The node arrays are `noise_mask [N]` (bool), `noise [N, 3]` (Å) and `force_input [N, 3]`.

    Attributes:
      probability: of selecting a structure.
      atom_share: probability of selecting an atom of it ("corrupt ratio").
      std: standard deviation of each component of the noise, Å.
      force_unit: what one unit of the force input is, in eV/Å. Published models take kcal/mol/Å.
    """

    probability: float = 0.25
    atom_share: float = 0.25
    std: float = 0.05
    force_unit: float = 1.0

    def __call__(
        self, structure: Structure, generator: np.random.Generator
    ) -> tuple[Structure, NodeArrays]:
        """Corrupts.

        Raises:
          ValueError: the structure has no forces.
        """
        if structure.forces is None:
            raise ValueError("forces: needed as an input of the denoising task")
        selected = generator.random() < self.probability
        mask = (generator.random(structure.num_atoms) < self.atom_share) & selected
        drawn = generator.normal(0, self.std, structure.positions.shape)
        noise = np.where(mask[:, None], drawn, 0.0)
        arrays = {
            "noise_mask": mask,
            "noise": noise,
            "force_input": np.where(mask[:, None], structure.forces / self.force_unit, 0.0),
        }
        corrupted = dataclasses.replace(structure, positions=structure.positions + noise)
        return corrupted, arrays

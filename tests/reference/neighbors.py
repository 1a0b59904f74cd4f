"""Neighbour lists by brute force over all pairs and images (SPEC §1.1, §8.2)."""

from __future__ import annotations

import itertools
import math
from typing import NamedTuple

import numpy as np


class NeighborList(NamedTuple):
    """Edges of one structure: `senders` and `receivers` `[E]`, integer image `offsets` `[E, 3]`."""

    senders: np.ndarray
    receivers: np.ndarray
    offsets: np.ndarray


def neighbor_list(
    positions: np.ndarray,
    cutoff: float,
    cell: np.ndarray | None = None,
    max_neighbors: int | None = None,
) -> NeighborList:
    """All neighbors within the cutoff, by receiver, then by distance.

    Args:
      positions: `[N, 3]`, angstrom.
      cutoff: angstrom.
      cell: `[3, 3]`, rows are lattice vectors, periodic in all three; None for a molecule.
      max_neighbors: how many of the nearest each receiver keeps; None for all.
    """
    senders, receivers, offsets = [], [], []
    images = _images(cell, cutoff)
    shifts = images @ (np.zeros((3, 3)) if cell is None else cell)
    for center in range(len(positions)):
        vectors = positions[None] + shifts[:, None] - positions[center]
        distances = np.linalg.norm(vectors, axis=-1)
        image, neighbor = np.nonzero((distances <= cutoff) & (distances > 0.01))
        order = np.argsort(distances[image, neighbor], kind="stable")[:max_neighbors]
        senders.append(neighbor[order])
        receivers.append(np.full(len(order), center))
        offsets.append(images[image[order]])
    return NeighborList(np.concatenate(senders), np.concatenate(receivers), np.concatenate(offsets))


def _images(cell: np.ndarray | None, cutoff: float) -> np.ndarray:
    if cell is None:
        return np.zeros((1, 3), int)
    volume = abs(np.linalg.det(cell))
    faces = [np.linalg.norm(np.cross(cell[i - 2], cell[i - 1])) for i in range(3)]
    # One image more than the cutoff asks for, since positions need not lie inside the cell.
    counts = [math.ceil(cutoff * face / volume) + 1 for face in faces]
    return np.array(list(itertools.product(*(range(-count, count + 1) for count in counts))))

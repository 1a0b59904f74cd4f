"""Neighbor lists: which atoms (or images of atoms) each atom sees.

An edge goes from a sender (the neighbor) to a receiver (the center); its vector is
`x_sender − x_receiver + shift · cell` (SPEC §1.1, §8.2). The search itself is vesin's.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import vesin

from equiformer_jax.structure import Structure

# Periodic edges of this squared length (Å²) or less are dropped (SPEC §8.2).
SMALLEST_PERIODIC_SQUARED_LENGTH = 1e-4

# Lengths that differ by less than this (Å) count as equal when the nearest neighbors are chosen, so
# that rounding does not decide between neighbors related by symmetry.
_TIE_WIDTH = 1e-8

# The search looks a little further than asked: the exact rule at the cutoff is applied here.
_SEARCH_MARGIN = 1e-6

# Below this number of atoms starting threads costs more than they save.
_THREADS_FROM_NUM_ATOMS = 2000


class NeighborList(NamedTuple):
    """Directed edges, sorted by receiver, then sender, then shift.

    Attributes:
        senders: int32 [E], the neighbors.
        receivers: int32 [E], the centers.
        shifts: int32 [E, 3], how many lattice vectors the sender's image is away; zeros along
            directions that are not periodic.
    """

    senders: np.ndarray
    receivers: np.ndarray
    shifts: np.ndarray


def neighbor_list(
    structure: Structure, cutoff: float, max_neighbors: int | None = None
) -> NeighborList:
    """All edges within the cutoff, or the nearest `max_neighbors` of them per receiver.

    Without periodic directions an edge joins two different atoms with `d < cutoff` (SPEC §1.1), be
    they at the same place. With them it joins any two images with `1e-4 Å² < d² <= cutoff²`
    (SPEC §8.2), an atom's own images included; the cell may be smaller than the cutoff. Among
    equally near neighbors the lower sender, then the lower shift is kept.

    Args:
        structure: N atoms, anywhere in or outside the cell.
        cutoff: Å, positive.
        max_neighbors: the most edges that a receiver keeps; None keeps all.

    Raises:
        ValueError: the cutoff is not a positive number, or max_neighbors is below 1.
    """
    _check_arguments(cutoff, max_neighbors)
    receivers, senders, shifts = _search(structure, cutoff)
    squared_lengths = _squared_lengths(structure, receivers, senders, shifts)
    if structure.is_periodic:
        kept = squared_lengths <= cutoff**2
        kept &= squared_lengths > SMALLEST_PERIODIC_SQUARED_LENGTH
    else:
        kept = squared_lengths < cutoff**2
    order = np.flatnonzero(kept)
    order = order[_canonical_order(receivers[order], senders[order], shifts[order])]
    if max_neighbors is not None:
        nearest = _nearest(receivers[order], squared_lengths[order], max_neighbors)
        order = order[nearest]
    return NeighborList(senders[order], receivers[order], shifts[order])


def _check_arguments(cutoff: float, max_neighbors: int | None) -> None:
    if not (np.isfinite(cutoff) and cutoff > 0):
        raise ValueError(f"cutoff: expected a positive length in Å, got {cutoff}")
    if max_neighbors is not None and max_neighbors < 1:
        raise ValueError(f"max_neighbors: expected at least 1 or None, got {max_neighbors}")


def _search(structure: Structure, cutoff: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Candidate receivers [C], senders [C] and shifts [C, 3], slightly beyond the cutoff."""
    search = vesin.NeighborList(
        cutoff=float(cutoff) * (1 + _SEARCH_MARGIN),
        full_list=True,
        n_threads=1 if structure.num_atoms < _THREADS_FROM_NUM_ATOMS else 0,
    )
    first, second, shifts = search.compute(
        points=structure.positions,
        box=_search_cell(structure),
        periodic=np.array(structure.pbc),
        quantities="ijS",
    )
    return first.astype(np.int32), second.astype(np.int32), shifts


def _search_cell(structure: Structure) -> np.ndarray:
    """[3, 3] cell whose open directions are unit vectors perpendicular to the periodic ones.

    What an open system carries as a cell, often flat or all zeros, never reaches the search.
    """
    if structure.cell is None or not structure.is_periodic:
        return np.eye(3)
    if all(structure.pbc):
        return structure.cell
    periodic = np.array(structure.pbc)
    cell = np.array(structure.cell)
    _, _, directions = np.linalg.svd(cell[periodic])
    cell[~periodic] = directions[periodic.sum() :]
    return cell


def _squared_lengths(
    structure: Structure, receivers: np.ndarray, senders: np.ndarray, shifts: np.ndarray
) -> np.ndarray:
    """[C], Å²."""
    vectors = structure.positions[senders] - structure.positions[receivers]
    if structure.is_periodic:
        vectors += shifts @ structure.cell
    return np.einsum("ei,ei->e", vectors, vectors)


def _canonical_order(receivers: np.ndarray, senders: np.ndarray, shifts: np.ndarray) -> np.ndarray:
    """Permutation [E] that sorts by receiver, then sender, then shift."""
    if not shifts.any():
        return np.lexsort((senders, receivers))
    # Fewer keys are faster. What they join is far from the end of an int64: shifts of atoms that
    # lie a million cells apart take 63 bits.
    shifts = shifts - shifts.min(axis=0).astype(np.int64)
    first, second, third = shifts.T
    _, num_second, num_third = shifts.max(axis=0) + 1
    pairs = receivers.astype(np.int64) * (int(senders.max()) + 1) + senders
    return np.lexsort(((first * num_second + second) * num_third + third, pairs))


def _nearest(receivers: np.ndarray, squared_lengths: np.ndarray, max_neighbors: int) -> np.ndarray:
    """Ascending indices of each receiver's nearest edges; edges come sorted by receiver."""
    if len(receivers) <= max_neighbors or np.bincount(receivers).max() <= max_neighbors:
        return np.arange(len(receivers))
    lengths = np.round(np.sqrt(squared_lengths) / _TIE_WIDTH)
    by_length = np.lexsort((lengths, receivers))  # stable: ties keep their order
    first_of_receiver = np.searchsorted(receivers, receivers)
    rank = np.arange(len(receivers)) - first_of_receiver
    return np.sort(by_length[rank < max_neighbors])


def shortest_distance(structure: Structure, cutoff: float) -> tuple[float, int, int] | None:
    """The closest two atoms, or images of atoms, as far as they are within the cutoff.

    Unlike `neighbor_list` it also sees two atoms at one place of a periodic system.

    Args:
        structure: N atoms.
        cutoff: Å, positive.

    Returns:
        Their distance in Å and their indices, the lower one first; None where no two are that
        close.
    """
    _check_arguments(cutoff, None)
    receivers, senders, shifts = _search(structure, cutoff)
    squared_lengths = _squared_lengths(structure, receivers, senders, shifts)
    if not len(squared_lengths):
        return None
    closest = int(np.argmin(squared_lengths))
    first, second = sorted((int(receivers[closest]), int(senders[closest])))
    return float(np.sqrt(squared_lengths[closest])), first, second

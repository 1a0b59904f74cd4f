"""Neighbor lists with a skin, kept and updated on the device.

Candidates are all pairs (of images) within the cutoff and a skin. They serve until an atom has
moved by half the skin; then the list is made anew from all pairs, inside the same compiled program.
Every evaluation picks from the candidates the pairs that the model has at the present positions, so
that a skin costs the check of a few more distances and nothing in the network.

Each pair is kept once: its two edges have the same length, and what depends on it is computed once.

Making a list looks at N^2 pairs, times the images of a cell smaller than twice the range. That is
little beside one evaluation of the network: at a thousand atoms, one or two in a hundred.
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from equiformer_jax.neighbors import SMALLEST_PERIODIC_SQUARED_LENGTH

# So many need up to two gigabytes for a moment, when a list is made.
MOST_PAIRS = 2**26


class SkinListShape(NamedTuple):
    """The static side of a list.

    Attributes:
      num_atoms: N.
      cutoff: of the model, Å.
      skin: Å.
      pbc: which directions are periodic.
      images: how many cells to look at on either side, in each direction.
      num_candidates: room for pairs within cutoff and skin.
      num_pairs: room for pairs within the cutoff; each gives two edges.
    """

    num_atoms: int
    cutoff: float
    skin: float
    pbc: tuple[bool, bool, bool]
    images: tuple[int, int, int]
    num_candidates: int
    num_pairs: int

    @property
    def is_periodic(self) -> bool:
        """Whether any direction is."""
        return any(self.pbc)


class SkinList(NamedTuple):
    """The list: all that an evaluation hands on to the next.

    Attributes:
      senders: `[C]`, one atom of each pair.
      receivers: `[C]`, the other one.
      shifts: `[C, 3]` int32, how many cells the sender's image is away.
      size: how many candidates there are, -1 before the first update.
      positions: `[N, 3]` at the last update, Å.
      cell: `[3, 3]` at the last update, Å.
      most_candidates: how many were found at most; more than there is room for is an overflow.
      most_pairs: how many pairs within the cutoff were found at most.
      updates: how many times the list has been made.
    """

    senders: jax.Array
    receivers: jax.Array
    shifts: jax.Array
    size: jax.Array
    positions: jax.Array
    cell: jax.Array
    most_candidates: jax.Array
    most_pairs: jax.Array
    updates: jax.Array


class Edges(NamedTuple):
    """The model's edges at the present positions: of P pairs, then of the same pairs reversed.

    Attributes:
      senders: `[2 P]`.
      receivers: `[2 P]`.
      shifts: `[2 P, 3]` int32, in cells.
      vectors: `[2 P, 3]`, from receiver to sender, Å; zero for padding.
      valid: `[2 P]` bool, false for padding, which joins the last atom with itself.
    """

    senders: jax.Array
    receivers: jax.Array
    shifts: jax.Array
    vectors: jax.Array
    valid: jax.Array

    def sorted_by_receiver(self) -> Edges:
        """The same edges with ascending receivers."""
        order = jnp.argsort(self.receivers)
        return Edges(*(values[order] for values in self))


def complete_cell(cell: np.ndarray | None, pbc: tuple[bool, bool, bool]) -> np.ndarray:
    """`[3, 3]`, with unit vectors across the periodic directions in place of the open ones.

    What an open system carries as a cell may be flat, or all zeros.
    """
    periodic = np.array(pbc)
    if cell is None or not periodic.any():
        return np.eye(3)
    if periodic.all() or np.linalg.det(cell):
        return np.array(cell)
    completed = np.array(cell)
    _, _, directions = np.linalg.svd(completed[periodic])
    completed[~periodic] = directions[periodic.sum() :]
    return completed


def images_needed(
    cell: np.ndarray, pbc: tuple[bool, bool, bool], reach: float
) -> tuple[int, int, int]:
    """How many cells on either side hold neighbors within `reach` of an atom (Å).

    Pairs are first brought together by whole cells, so that half a cell is between them at most.
    The cell has a volume: `complete_cell`.
    """
    volume, counts = abs(np.linalg.det(cell)), []
    for axis in range(3):
        others = [cell[i] for i in range(3) if i != axis]
        height = volume / np.linalg.norm(np.cross(*others))
        counts.append(int(np.floor(reach / height + 0.5)) if pbc[axis] else 0)
    return (counts[0], counts[1], counts[2])


def empty_list(shape: SkinListShape, dtype: jnp.dtype) -> SkinList:
    """A list that is made at its first use."""
    return SkinList(
        senders=jnp.zeros(shape.num_candidates, jnp.int32),
        receivers=jnp.zeros(shape.num_candidates, jnp.int32),
        shifts=jnp.zeros((shape.num_candidates, 3), jnp.int32),
        size=jnp.int32(-1),
        positions=jnp.zeros((shape.num_atoms, 3), dtype),
        cell=jnp.zeros((3, 3), dtype),
        most_candidates=jnp.int32(0),
        most_pairs=jnp.int32(0),
        updates=jnp.int32(0),
    )


def update_if_moved(
    shape: SkinListShape, neighbors: SkinList, positions: jax.Array, cell: jax.Array
) -> SkinList:
    """Makes the list anew where an atom has moved by half the skin, or the cell has changed."""
    moved = jnp.max(jnp.sum((positions - neighbors.positions) ** 2, axis=-1), initial=0.0)
    stale = moved > (shape.skin / 2) ** 2
    stale |= (neighbors.size < 0) | jnp.any(cell != neighbors.cell)
    return jax.lax.cond(
        stale,
        lambda: _make_list(shape, neighbors, positions, cell),
        lambda: neighbors,
    )


def _make_list(
    shape: SkinListShape, neighbors: SkinList, positions: jax.Array, cell: jax.Array
) -> SkinList:
    """Candidates from all pairs and images."""
    atoms = jnp.arange(shape.num_atoms)
    vectors = positions[None] - positions[:, None]  # [receiver, sender, 3]
    images, nearest = _images(shape), jnp.zeros(vectors.shape, jnp.int32)
    if shape.is_periodic:
        inverse = jnp.linalg.inv(cell)
        nearest = -jnp.round(vectors @ inverse).astype(jnp.int32) * jnp.array(shape.pbc)
        vectors = vectors + nearest.astype(vectors.dtype) @ cell
    squared = jnp.zeros((shape.num_atoms, shape.num_atoms, len(images)), vectors.dtype)
    offsets = jnp.asarray(images, vectors.dtype) @ cell
    for axis in range(3):
        squared += (vectors[:, :, None, axis] + offsets[:, axis]) ** 2
    near = squared <= (shape.cutoff + shape.skin) ** 2
    shifted = nearest[:, :, None] + jnp.asarray(images)
    # Of a pair and its reverse, the one whose receiver comes later; of an atom and its own images
    # the ones in the upper half of space.
    later = (atoms[:, None] > atoms)[:, :, None]
    own = (atoms[:, None] == atoms)[:, :, None]
    near &= later | (own & _is_upper(shifted))
    found = jnp.sum(near)
    (chosen,) = jnp.nonzero(near.reshape(-1), size=shape.num_candidates, fill_value=0)
    receivers, rest = jnp.divmod(chosen, shape.num_atoms * len(images))
    senders, image = jnp.divmod(rest, len(images))
    present = jnp.arange(shape.num_candidates) < found
    return SkinList(
        senders=jnp.where(present, senders, shape.num_atoms - 1).astype(jnp.int32),
        receivers=jnp.where(present, receivers, shape.num_atoms - 1).astype(jnp.int32),
        shifts=nearest[receivers, senders] + jnp.asarray(images)[image],
        size=jnp.minimum(found, shape.num_candidates).astype(jnp.int32),
        positions=positions,
        cell=cell,
        most_candidates=jnp.maximum(neighbors.most_candidates, found).astype(jnp.int32),
        most_pairs=neighbors.most_pairs,
        updates=neighbors.updates + 1,
    )


def _is_upper(shifts: jax.Array) -> jax.Array:
    """Whether the first of three components that is not zero is positive."""
    first, second, third = shifts[..., 0], shifts[..., 1], shifts[..., 2]
    rest = (second > 0) | ((second == 0) & (third > 0))
    return (first > 0) | ((first == 0) & rest)


def _images(shape: SkinListShape) -> np.ndarray:
    """`[K, 3]`, in the order of a neighbor list."""
    ranges = [range(-count, count + 1) for count in shape.images]
    return np.array(list(itertools.product(*ranges)), np.int32)


def select_edges(
    shape: SkinListShape, neighbors: SkinList, positions: jax.Array, cell: jax.Array
) -> tuple[Edges, SkinList]:
    """The candidates that are neighbors now, by the rule of `neighbors.neighbor_list`.

    Returns:
      The edges, and the list with a note of how many there were.
    """
    vectors = positions[neighbors.senders] - positions[neighbors.receivers]
    vectors = vectors + neighbors.shifts.astype(vectors.dtype) @ cell
    squared = jnp.sum(vectors**2, axis=-1)
    near = jnp.arange(shape.num_candidates) < neighbors.size
    if shape.is_periodic:
        near &= (squared <= shape.cutoff**2) & (squared > SMALLEST_PERIODIC_SQUARED_LENGTH)
    else:
        near &= squared < shape.cutoff**2
    found = jnp.sum(near).astype(jnp.int32)
    (chosen,) = jnp.nonzero(near, size=shape.num_pairs, fill_value=0)
    valid = jnp.arange(shape.num_pairs) < found
    last = shape.num_atoms - 1
    senders = jnp.where(valid, neighbors.senders[chosen], last)
    receivers = jnp.where(valid, neighbors.receivers[chosen], last)
    shifts = jnp.where(valid[:, None], neighbors.shifts[chosen], 0)
    vectors = jnp.where(valid[:, None], vectors[chosen], 0)
    edges = Edges(
        senders=jnp.concatenate([senders, receivers]),
        receivers=jnp.concatenate([receivers, senders]),
        shifts=jnp.concatenate([shifts, -shifts]),
        vectors=jnp.concatenate([vectors, -vectors]),
        valid=jnp.concatenate([valid, valid]),
    )
    return edges, neighbors._replace(most_pairs=jnp.maximum(neighbors.most_pairs, found))


def has_overflowed(shape: SkinListShape, neighbors: SkinList) -> jax.Array:
    """Whether more candidates or pairs were found than there is room for, ever since."""
    too_many = neighbors.most_candidates > shape.num_candidates
    return too_many | (neighbors.most_pairs > shape.num_pairs)

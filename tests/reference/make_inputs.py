"""Random molecules and crystals for the fixtures, far from every discontinuity of the model."""

from __future__ import annotations

import numpy as np

from tests.reference.fixture_cases import Case
from tests.reference.neighbors import NeighborList, neighbor_list

Arrays = dict[str, np.ndarray]

ELEMENTS = {
    "qm9": (1, 6, 7, 8, 9),
    "md17": (1, 6, 7, 8, 17),
    "md17_dens": (1, 6, 7, 8),
    "oc20": (1, 6, 8, 13, 29, 46, 78),
}
MARGIN = 0.03
GRID = 2.0**-12


def random_batch(case: Case, generator: np.random.Generator) -> Arrays:
    """The group `in` of a fixture: three molecules or two crystals.

    Every coordinate is a multiple of `GRID`, so that nothing is lost in float32. No distance lies
    within `MARGIN` of the cutoff, nor, where neighbors are capped, does the last neighbor that is
    kept lie that close to the first that is not.
    """
    sizes = (5, 4) if case.periodic else (6, 4, 5)
    cutoff = case.fields["max_radius"]
    graphs = []
    for index, size in enumerate(sizes):
        isolated = case.name == "qm9_nonlinear" and index == 0
        graphs.append(_random_graph(size, cutoff, case, generator, isolated))
    starts = np.concatenate([[0], np.cumsum(sizes)])
    edges = [graph[2] for graph in graphs]
    arrays = {
        "pos": np.concatenate([graph[0] for graph in graphs]),
        "batch": np.repeat(np.arange(len(sizes)), sizes),
        "edge_index": np.hstack(
            [
                np.stack([edge.senders, edge.receivers]) + start
                for edge, start in zip(edges, starts[:-1], strict=True)
            ]
        ),
    }
    numbers = generator.choice(ELEMENTS[case.dataset], sum(sizes))
    arrays["atomic_numbers" if case.dataset == "oc20" else "z"] = numbers
    if case.periodic:
        arrays["cell"] = np.stack([graph[1] for graph in graphs])
        arrays["cell_offsets"] = np.concatenate([edge.offsets for edge in edges]).astype(float)
    if case.dataset == "oc20":
        arrays["tags"] = np.arange(sum(sizes)) % 3
    if case.dataset == "md17_dens":
        arrays["force"] = on_grid(generator.normal(size=arrays["pos"].shape))
        arrays["noise_mask"] = generator.random(sum(sizes)) < 0.4
    return arrays


def on_grid(values: np.ndarray) -> np.ndarray:
    """Rounded to multiples of `GRID`."""
    return np.round(values / GRID) * GRID


def _random_graph(
    size: int, cutoff: float, case: Case, generator: np.random.Generator, isolated: bool
) -> tuple[np.ndarray, np.ndarray | None, NeighborList]:
    """Positions, cell and edges; drawn until all distances are acceptable."""
    while True:
        cell = _random_cell(generator) if case.periodic else None
        box = np.eye(3) * 5.0 if cell is None else cell
        positions = on_grid(generator.random((size, 3)) @ box)
        if isolated:
            positions[-1] += 20.0
        if _acceptable(positions, cutoff, cell, case.max_neighbors):
            return positions, cell, neighbor_list(positions, cutoff, cell, case.max_neighbors)


def _random_cell(generator: np.random.Generator) -> np.ndarray:
    """A skewed cell, smaller than the cutoff along its first vector."""
    lengths = np.array([4.2, 5.3, 6.1])
    return on_grid(np.diag(lengths) + generator.uniform(-0.6, 0.6, (3, 3)))


def _acceptable(
    positions: np.ndarray, cutoff: float, cell: np.ndarray | None, max_neighbors: int | None
) -> bool:
    wide = neighbor_list(positions, cutoff + 1.0, cell)
    shifts = 0.0 if cell is None else wide.offsets @ cell
    vectors = positions[wide.senders] - positions[wide.receivers] + shifts
    distances = np.linalg.norm(vectors, axis=-1)
    if distances.min() < 1.0 or np.abs(distances - cutoff).min() < MARGIN:
        return False
    if max_neighbors is None:
        return True
    for receiver in range(len(positions)):
        sorted_distances = np.sort(distances[wide.receivers == receiver])
        kept, dropped = sorted_distances[max_neighbors - 1 : max_neighbors + 1]
        if dropped - kept < MARGIN / 3 or dropped > cutoff:
            return False
    return True

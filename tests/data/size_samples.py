"""Sizes of graphs as those of public data sets, drawn at random."""

from __future__ import annotations

import numpy as np

from equiformer_jax.data.planning import GraphSizes


def molecules(count: int, seed: int = 0) -> GraphSizes:
    """Like QM9 within 5 Å: 3 to 29 atoms, 18 on average; nearly all pairs are edges."""
    generator = np.random.default_rng(seed)
    nodes = np.clip(generator.normal(18, 3, count).round().astype(int), 3, 29)
    pairs = nodes * (nodes - 1)
    return GraphSizes(nodes, (pairs * generator.uniform(0.75, 1.0, count)).astype(int))


def slabs(count: int, seed: int = 0) -> GraphSizes:
    """Like OC20: 23 to 219 atoms, 78 on average, with 4 to 50 neighbors, unevenly spread."""
    generator = np.random.default_rng(seed)
    nodes = np.clip(generator.lognormal(np.log(72), 0.42, count), 23, 219).round().astype(int)
    degree = np.clip(generator.lognormal(np.log(24), 0.42, count), 4, 50)
    return GraphSizes(nodes, (nodes * degree).astype(int))


def sizes_of(*pairs: tuple[int, int]) -> GraphSizes:
    """Sizes from pairs of atoms and edges."""
    nodes, edges = np.array(pairs).T
    return GraphSizes(nodes, edges)


def one_giant(count: int = 200) -> GraphSizes:
    """Molecules and a protein."""
    return sizes_of(*[(10, 90)] * (count - 1), (5000, 200_000))


def all_equal(count: int = 200) -> GraphSizes:
    """Frames of one molecule."""
    return sizes_of(*[(21, 300)] * count)


def bimodal(count: int = 200) -> GraphSizes:
    """Half of the graphs have many atoms and few edges, the others the reverse."""
    return sizes_of(*[(100, 200), (10, 2000)] * (count // 2))

"""What is checked and measured of a system before its forces are evaluated."""

from __future__ import annotations

import numpy as np

from equiformer_jax.graph import build_graph
from equiformer_jax.inference.dynamics.skin_list import (
    MOST_PAIRS,
    SkinListShape,
    complete_cell,
    images_needed,
)
from equiformer_jax.inference.potential import Potential, UnsuitableStructureError
from equiformer_jax.models.checks import check_graph
from equiformer_jax.structure import Structure

# Room beyond what the first structure needs, so that dynamics rarely outgrow it.
_HEADROOM_CANDIDATES, _HEADROOM_PAIRS = 1.25, 1.05
_ROUND_TO = 8


def check_system(potential: Potential, structure: Structure, skin: float) -> None:
    """Refuses what no evaluator can be made for; the errors are those of `ForceEvaluator`."""
    config, meaning = potential.config, potential.meaning
    if not (np.isfinite(skin) and skin >= 0):
        raise ValueError(f"skin: expected a length in Å, got {skin}")
    if not meaning.has_forces:
        raise UnsuitableStructureError(
            f"the potential predicts {potential.describe()}, whose slope is no force"
        )
    if potential.members > 1:
        raise ValueError(
            f"the potential is an ensemble of {potential.members}; call it itself, or make one of "
            "a member (`training.ensemble.member`)"
        )
    if config.max_neighbors is not None:
        raise ValueError(
            f"max_neighbors={config.max_neighbors}: which neighbors such a model keeps depends on "
            "all distances at once; call the potential itself"
        )
    graph = build_graph(structure, config.max_radius)
    if graph.n_edge[0] == 0:
        raise UnsuitableStructureError(
            f"no atom has a neighbor within the cutoff of {config.max_radius} Å"
        )
    try:
        check_graph(graph, config)
    except ValueError as error:
        raise UnsuitableStructureError(str(error)) from error


def first_shape(structure: Structure, cutoff: float, skin: float) -> SkinListShape:
    """Room for the neighbors of a structure and some more.

    Raises:
      ValueError: the system is too large for lists on the device.
    """
    pbc = (bool(structure.pbc[0]), bool(structure.pbc[1]), bool(structure.pbc[2]))
    images = images_needed(complete_cell(structure.cell, pbc), pbc, cutoff + skin)
    pairs = structure.num_atoms**2 * int(np.prod([2 * count + 1 for count in images]))
    if pairs > MOST_PAIRS:
        raise ValueError(
            f"{structure.num_atoms:,} atoms have {pairs:,} pairs, more than {MOST_PAIRS:,}, which "
            "neighbor lists on the device look at; call the potential itself"
        )
    candidates, pairs = (
        int(build_graph(structure, reach).n_edge[0]) // 2 for reach in (cutoff + skin, cutoff)
    )
    return SkinListShape(
        structure.num_atoms,
        cutoff,
        skin,
        pbc,
        images,
        room_for_candidates(candidates),
        room_for_pairs(pairs),
    )


def room_for_candidates(needed: int, given: int = 0) -> int:
    """At least what was given; where that is too little, more than needed."""
    return _room(needed, _HEADROOM_CANDIDATES, given)


def room_for_pairs(needed: int, given: int = 0) -> int:
    """The same for pairs, each of which costs time whether it is used or not."""
    return _room(needed, _HEADROOM_PAIRS, given)


def _room(needed: int, headroom: float, given: int) -> int:
    if needed <= given:
        return given
    return -(-int(needed * headroom + 1) // _ROUND_TO) * _ROUND_TO

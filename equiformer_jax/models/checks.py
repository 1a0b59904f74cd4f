"""Refuses graphs that a model would turn into meaningless numbers.

That is done while their values can still be seen: outside `jit`.
"""

from __future__ import annotations

import jax
import jraph
import numpy as np

from equiformer_jax.models.config import EquiformerConfig
from equiformer_jax.models.element_table import element_table
from equiformer_jax.structure import LARGEST_ATOMIC_NUMBER


def check_graph(graph: jraph.GraphsTuple, config: EquiformerConfig) -> None:
    """Checks a graph against a model.

    Keys are always checked; values only outside `jit`, where they are known.

    Args:
      graph: one batch.
      config: the model.

    Raises:
      ValueError: a field is missing, there are no edges at all or they are not sorted by receiver,
        an atomic number is outside the embedding, a position is not
        finite, or a tag is unknown.
    """
    needed = ["positions", "atomic_numbers"] + ["tags"] * config.use_tags
    for key in needed:
        if key not in graph.nodes:
            raise ValueError(
                f"graph.nodes has no {key!r}, which this model reads; it has {sorted(graph.nodes)}"
            )
    if graph.edges and "shifts" in graph.edges and "cell" not in (graph.globals or {}):
        raise ValueError("graph.edges has 'shifts' but graph.globals has no 'cell'")
    _check_edges(graph)
    _check_elements(graph.nodes["atomic_numbers"], config)
    _check_positions(graph.nodes["positions"])
    if config.use_tags:
        _check_tags(graph.nodes["tags"])


def _known(array: jax.Array | np.ndarray) -> np.ndarray | None:
    return None if isinstance(array, jax.core.Tracer | jax.ShapeDtypeStruct) else np.asarray(array)


def _check_edges(graph: jraph.GraphsTuple) -> None:
    if graph.senders.shape[0] == 0:
        raise ValueError(
            "the graph has no edges: no two of its atoms are closer than the cutoff. Atoms without "
            "neighbors are allowed in a batch, which has padding edges: use batch_graphs"
        )
    receivers = _known(graph.receivers)
    if receivers is not None and (np.diff(receivers) < 0).any():
        edge = int(np.argmax(np.diff(receivers) < 0)) + 1
        raise ValueError(f"edges must be sorted by receiver; edge {edge} is out of order")


def _check_elements(atomic_numbers: jax.Array, config: EquiformerConfig) -> None:
    numbers = _known(atomic_numbers)
    if numbers is None:
        return
    inside = (numbers >= 0) & (numbers <= LARGEST_ATOMIC_NUMBER)
    known = inside & (element_table(config)[np.where(inside, numbers, 0)] >= 0)
    if not known.all():
        atom = int(np.argmin(known))
        elements = config.atomic_number_map or f"1 to {config.max_atom_type - 1}"
        raise ValueError(
            f"atom {atom} has atomic number {int(numbers[atom])}, which this model's embedding "
            f"does not hold (it knows {elements})"
        )


def _check_positions(positions: jax.Array) -> None:
    values = _known(positions)
    if values is not None and not np.isfinite(values).all():
        atom = int(np.argmin(np.isfinite(values).all(axis=-1)))
        raise ValueError(f"the position of atom {atom} is not finite: {values[atom]}")


def _check_tags(tags: jax.Array) -> None:
    values = _known(tags)
    if values is not None and not np.isin(values, (0, 1, 2)).all():
        atom = int(np.argmin(np.isin(values, (0, 1, 2))))
        raise ValueError(f"the tag of atom {atom} is {int(values[atom])}; expected 0, 1 or 2")

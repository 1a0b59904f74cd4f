"""A training batch as shapes and types alone.

Which arrays a batch has follows from its data set and augmentation. They are read off a made-up
structure of two atoms with the fields that the reader of the data set gives, which goes the way of
a real one.
"""

from __future__ import annotations

from typing import Any

import jax
import jraph
import numpy as np
from jax.sharding import NamedSharding
from ml_collections import config_dict

from equiformer_jax.data.augmentation import NodeArrays
from equiformer_jax.data.budgets import Budget, rounded_budget
from equiformer_jax.graph import batch_graphs, build_graph
from equiformer_jax.structure import Structure
from equiformer_jax.training import recipe
from experiments.tpu.sizes import StructureSize

_PERIODIC = {"cell": 10.0 * np.eye(3), "pbc": (True, True, True)}
_FORCES = {"forces": np.zeros((2, 3))}
_TAGS = {"tags": np.ones(2, int), "fixed": np.zeros(2, bool)}
_FIELDS: dict[str, dict[str, Any]] = {
    "qm9": {},
    "oc20_is2re": {**_PERIODIC, **_TAGS, "relaxed_positions": np.eye(2, 3)},
    "oc20_s2ef": {**_PERIODIC, **_TAGS, **_FORCES},
}


def example_graph(config: config_dict.ConfigDict) -> jraph.GraphsTuple:
    """A graph of two atoms with the arrays that a training batch of a configuration has."""
    fields = dict(_FIELDS.get(config.data.name, _FORCES))
    if config.objective.get("stress_weight", 0.0) > 0:
        fields |= {**_PERIODIC, "stress": np.zeros((3, 3))}
    structure = Structure(np.eye(2, 3), np.array([1, 1]), energy=0.0, **fields)
    arrays: NodeArrays = {}
    augmentation = recipe.build_augmentation(config.get("augmentation"))
    if augmentation is not None:
        structure, arrays = augmentation(structure, np.random.default_rng(0))
    graph = build_graph(structure, config.model.max_radius, config.model.max_neighbors)
    kinds = {"f": np.float32, "b": np.bool_, "i": np.int32}
    extra: NodeArrays = {
        name: array.astype(kinds[array.dtype.kind]) for name, array in arrays.items()
    }
    return graph._replace(nodes={**graph.nodes, **extra})


def part_budget(size: StructureSize, structures: int) -> Budget:
    """The padded shape of a part of a batch with so many typical structures."""
    return rounded_budget(structures * size.atoms, structures * size.edges, structures)


def abstract_batch(
    example: jraph.GraphsTuple,
    budget: Budget,
    leading: tuple[int, ...],
    sharding: NamedSharding | None = None,
) -> jraph.GraphsTuple:
    """A padded batch without content.

    Args:
      example: a graph with the arrays of the batch.
      budget: its padded shape on one device.
      leading: axes before that, of devices and micro-batches.
      sharding: of all its arrays.
    """
    padded = batch_graphs([example])
    rows = {"nodes": budget.n_node, "edges": budget.n_edge, "globals": budget.n_graph}
    rows |= {"senders": budget.n_edge, "receivers": budget.n_edge}
    rows |= {"n_node": budget.n_graph, "n_edge": budget.n_graph}

    def emptied(count: int, leaf: np.ndarray) -> jax.ShapeDtypeStruct:
        shape = (*leading, count, *leaf.shape[1:])
        return jax.ShapeDtypeStruct(shape, leaf.dtype, sharding=sharding)

    parts = padded._asdict()
    return jraph.GraphsTuple(
        **{
            name: jax.tree.map(lambda leaf, count=count: emptied(count, leaf), parts[name])
            for name, count in rows.items()
        }
    )

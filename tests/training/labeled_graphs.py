"""Graphs with every label that an objective reads, and predictions for them: no model needed."""

from __future__ import annotations

import jax.numpy as jnp
import jraph
import numpy as np

ATOMS = (1, 4, 2, 6, 3)  # of each graph
PER_NODE = {"forces": 3, "noise": 3, "positions": 3, "relaxed_positions": 3}
GENERATOR = np.random.default_rng(11)


def _node_values():
    return [
        {name: GENERATOR.normal(size=(atoms, width)) for name, width in PER_NODE.items()}
        | {"tags": GENERATOR.integers(0, 3, atoms), "noise_mask": GENERATOR.random(atoms) < 0.5}
        for atoms in ATOMS
    ]


def _graph_values():
    return [{"energy": GENERATOR.normal(), "stress": GENERATOR.normal(size=(3, 3))} for _ in ATOMS]


def _predictions():
    of_graphs = [
        {"energy": GENERATOR.normal(), "stress": GENERATOR.normal(size=(3, 3))} for _ in ATOMS
    ]
    vectors = ("forces", "denoising", "displacement")
    of_nodes = [{name: GENERATOR.normal(size=(n, 3)) for name in vectors} for n in ATOMS]
    return of_graphs, of_nodes


NODES, GLOBALS, (GRAPH_PREDICTIONS, NODE_PREDICTIONS) = (
    _node_values(),
    _graph_values(),
    _predictions(),
)


def batch_of(indices, padding_nodes=2, padding_graphs=2, rubbish=np.nan):
    """Predictions and graph of some of the graphs; labels of padding are `rubbish`."""
    sizes = [ATOMS[i] for i in indices]
    graph = jraph.GraphsTuple(
        nodes={
            name: _joined([NODES[i][name] for i in indices], NODES[0][name], padding_nodes, rubbish)
            for name in NODES[0]
        },
        edges={},
        globals={
            name: _joined(
                [np.asarray(GLOBALS[i][name])[None] for i in indices],
                np.asarray(GLOBALS[0][name])[None],
                padding_graphs,
                rubbish,
            )
            for name in GLOBALS[0]
        },
        senders=jnp.zeros(0, jnp.int32),
        receivers=jnp.zeros(0, jnp.int32),
        n_node=jnp.array([*sizes, padding_nodes, *[0] * (padding_graphs - 1)], jnp.int32),
        n_edge=jnp.zeros(len(sizes) + padding_graphs, jnp.int32),
    )
    predictions = {
        name: _joined([NODE_PREDICTIONS[i][name] for i in indices], value, padding_nodes, 7.0)
        for name, value in NODE_PREDICTIONS[0].items()
    } | {
        name: _joined(
            [np.asarray(GRAPH_PREDICTIONS[i][name])[None] for i in indices],
            np.asarray(value)[None],
            padding_graphs,
            7.0,
        )
        for name, value in GRAPH_PREDICTIONS[0].items()
    }
    return predictions, graph


def _joined(parts, like, padding, rubbish):
    """The parts, then padding: `rubbish` in floats, ones in integers, true in masks."""
    fill = rubbish if like.dtype.kind == "f" else 1
    tail = np.full((padding, *like.shape[1:]), fill, like.dtype)
    return jnp.asarray(np.concatenate([*parts, tail]))

"""Run in a process of its own by test_edge_parts.py: it needs several devices."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from equiformer_jax.ops.segment import (
    gather_to_edges,
    graph_index_of_nodes,
    sum_to_graphs,
    sum_to_nodes,
)
from equiformer_jax.training import make_optimizer
from equiformer_jax.training.edge_parts import edge_axis_of
from equiformer_jax.training.objectives import EnergyForceObjective
from equiformer_jax.training.sharding import make_data_mesh, num_data_parts, place_batch
from equiformer_jax.training.state import create_train_state, state_sharding
from equiformer_jax.training.step import make_evaluation_step, make_predict, make_train_step
from tests.training.whole_batch import whole_source

OBJECTIVE = EnergyForceObjective(energy_std=2.0, energy_weight=1.5, force_weight=20.0)
STEPS = 3


class Pairs(nn.Module):
    """Embedded atoms: what an atom adds is not linear in what its edges say."""

    edge_axis: str | None = None

    @nn.compact
    def __call__(self, graph, deterministic):
        positions = graph.nodes["positions"]
        ends = [gather_to_edges(positions, index) for index in (graph.senders, graph.receivers)]
        squares = jnp.sum((ends[0] - ends[1]) ** 2, axis=-1)[:, None]
        # Like a network's, the messages of padding, which has no length, are dropped.
        hidden = jnp.where(squares > 0, jnp.tanh(nn.Dense(7, param_dtype=float)(squares)), 0)
        at_nodes = sum_to_nodes(hidden, graph.receivers, len(positions), self.edge_axis)
        per_atom = nn.Dense(1, param_dtype=float)(jnp.sin(at_nodes))[:, 0]
        index = graph_index_of_nodes(graph.n_node, len(positions))
        return {"energy": sum_to_graphs(per_atom, index, len(graph.n_node))}


def train_on(num_devices, edge_parts, accumulate=1, shard_optimizer=False):
    """Numbers of some steps, and the parameters and predictions after them."""
    mesh = make_data_mesh(num_devices, edge_parts)
    graph = place_batch(whole_source(num_data_parts(mesh), 3, accumulate), mesh)
    predict = make_predict(Pairs(), needs_forces=True, edge_axis=edge_axis_of(mesh))
    optimizer = make_optimizer(1e-2, 1e-3)
    step = make_train_step(
        predict, optimizer, OBJECTIVE, mesh, accumulate=accumulate, shard_optimizer=shard_optimizer
    )
    first = jax.tree.map(lambda leaf: leaf[(0,) * (graph.n_node.ndim - 1)], graph)
    params = Pairs().init(jax.random.key(0), jax.device_get(first), True)["params"]
    state = create_train_state(params, optimizer, jax.random.key(1))
    state = jax.device_put(state, state_sharding(state, mesh, shard_optimizer))
    numbers = []
    for _ in range(STEPS):
        state, means = step(state, graph)
        numbers.append([float(means[name].value) for name in sorted(means)])
    if accumulate > 1:
        return numbers, jax.device_get(state.params)
    means, predictions = make_evaluation_step(predict, OBJECTIVE, mesh)(state.params, graph)
    real = np.asarray(graph.nodes["atomic_numbers"]) > 0
    forces = np.sort(np.asarray(predictions["forces"])[real], axis=0)  # parts differ in order
    errors = [float(means[name].value) for name in sorted(means)]
    return numbers, jax.device_get(state.params), errors, forces


def assert_close(x, y):
    np.testing.assert_allclose(x, y, rtol=1e-10, atol=1e-12)


def main():
    """Layouts whose edges do not divide evenly are among these."""
    wanted = train_on(1, 1)
    layouts = ((4, 4), (8, 2), (6, 3, 1, True), (4, 2, 3))
    for layout in layouts:
        found = train_on(*layout)
        for one, other in zip(found, wanted, strict=False):  # micro-batches are not evaluated
            jax.tree.map(assert_close, one, other)
        print(f"{layout} agrees", flush=True)


if __name__ == "__main__":
    main()

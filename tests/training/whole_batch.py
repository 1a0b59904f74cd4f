"""Run in a process of its own by test_step.py: it needs several devices."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax

from equiformer_jax.data import batching
from equiformer_jax.data.pipeline import EvaluationBatches, HostDevices
from equiformer_jax.data.structures import StructureList
from equiformer_jax.training import make_optimizer
from equiformer_jax.training.evaluation import evaluate_split
from equiformer_jax.training.objectives import EnergyForceObjective
from equiformer_jax.training.sharding import make_data_mesh, place_batch, replicate
from equiformer_jax.training.state import create_train_state
from equiformer_jax.training.step import make_evaluation_step, make_train_step
from tests.training.small_potential import initial_params, predict, random_source

STEPS = 4
WEIGHTS = {"energy_weight": 1.5, "force_weight": 20.0}
SOURCE = random_source()
STD = 2.0


def train_on(num_devices, slack, accumulate=1):
    """Parameters and losses after some steps on the whole of SOURCE, dealt out to the devices."""
    mesh = make_data_mesh(num_devices)
    objective = EnergyForceObjective(energy_std=STD, **WEIGHTS)
    optimizer = make_optimizer(1e-2, 1e-3)
    step = make_train_step(predict, optimizer, objective, mesh, accumulate=accumulate)
    graph = place_batch(whole_source(num_devices, slack, accumulate), mesh)
    state = replicate(create_train_state(initial_params(), optimizer, jax.random.key(0)), mesh)
    losses = []
    for _ in range(STEPS):
        state, means = step(state, graph)
        losses.append([float(means[name].value) for name in sorted(means)])
    return state, np.array(losses), evaluate_on(mesh, objective, state.params)


def whole_source(num_devices, slack, accumulate=1):
    """SOURCE as one batch, with an axis of devices and, where asked for, one of micro-batches."""
    indices = np.arange(len(SOURCE))
    parts = batching.split_over_devices(indices, SOURCE.sizes, num_devices * accumulate)
    budget = batching.budget_for([parts], SOURCE.sizes)
    budget = batching.Budget(budget.n_edge + slack, budget.n_node + slack, budget.n_graph + slack)
    slices = [batching.pack([SOURCE[i] for i in part], budget, SOURCE[0]) for part in parts]
    batch = batching.stack_for_devices(slices)
    if accumulate == 1:
        return batch
    return jax.tree.map(lambda x: x.reshape(num_devices, accumulate, *x.shape[1:]), batch)


def evaluate_on(mesh, objective, params):
    batches = EvaluationBatches(SOURCE, batch_size=4, devices=HostDevices(mesh.size))
    step = make_evaluation_step(predict, objective, mesh)

    return evaluate_split(
        step,
        params,
        batches,
        mesh,
        store=SOURCE,
        scale=STD,
        structures=StructureList([], "not looked at"),
        split="test",
    )


def train_without_padding():
    """The same steps written down directly: no padding, no devices."""
    graph = batching.batch_graphs(list(SOURCE))
    graphs, atoms = len(SOURCE), int(SOURCE.sizes.nodes.sum())
    energy_labels = graph.globals["energy"][:graphs] / STD
    force_labels = graph.nodes["forces"][:atoms] / STD

    def loss(params):
        out = predict(params, graph, None)
        energy = jnp.mean(jnp.abs(out["energy"][:graphs] - energy_labels))
        errors = out["forces"][:atoms] - force_labels
        force = jnp.mean(jnp.sqrt(jnp.sum(errors**2, axis=-1)))
        return WEIGHTS["energy_weight"] * energy + WEIGHTS["force_weight"] * force

    optimizer, params = make_optimizer(1e-2, 1e-3), initial_params()
    state, losses = optimizer.init(params), []
    for _ in range(STEPS):
        value, gradient = jax.value_and_grad(loss)(params)
        updates, state = optimizer.update(gradient, state, params)
        params = optax.apply_updates(params, updates)
        losses.append(float(value))
    return params, losses


def main():
    params, losses = train_without_padding()
    layouts = ((1, 0, 1), (2, 13, 1), (4, 5, 1), (8, 1, 1), (2, 3, 3))
    for num_devices, slack, accumulate in layouts:
        state, numbers, evaluation = train_on(num_devices, slack, accumulate)
        names = sorted(
            ["energy_mae_mev", "force_mae_mev_per_angstrom", "gradient_norm", "loss"]
            + ["loss/energy", "loss/force"]
        )
        np.testing.assert_allclose(numbers[:, names.index("loss")], losses, rtol=1e-13)
        jax.tree.map(
            lambda ours, theirs: np.testing.assert_allclose(ours, theirs, rtol=1e-11),
            state.params,
            params,
        )
        if (num_devices, accumulate) == (1, 1):
            first = numbers, evaluation
        np.testing.assert_allclose(numbers, first[0], rtol=1e-11)
        for field in ("predicted_energies", "predicted_forces", "reference_energies"):
            np.testing.assert_allclose(
                getattr(evaluation, field), getattr(first[1], field), rtol=1e-10, atol=1e-12
            )
        assert int(state.step) == STEPS
        print(f"{num_devices} devices agree, {accumulate} micro-batches each", flush=True)


if __name__ == "__main__":
    main()

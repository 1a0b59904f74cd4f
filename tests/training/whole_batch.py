"""Run in a process of its own by test_step.py: it needs several devices."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import PartitionSpec

from equiformer_jax.data import batching
from equiformer_jax.data.pipeline import EvaluationBatches, HostDevices
from equiformer_jax.data.structures import StructureList
from equiformer_jax.training import make_optimizer
from equiformer_jax.training.averages import ParameterAverage
from equiformer_jax.training.ensemble import (
    ensemble_state,
    make_ensemble_train_step,
    stack_members,
)
from equiformer_jax.training.evaluation import evaluate_split
from equiformer_jax.training.objectives import EnergyForceObjective
from equiformer_jax.training.sharding import make_data_mesh, place_batch, replicate
from equiformer_jax.training.state import create_train_state, state_sharding
from equiformer_jax.training.step import make_evaluation_step, make_train_step
from tests.training.small_potential import initial_params, predict, random_source

STEPS = 4
WEIGHTS = {"energy_weight": 1.5, "force_weight": 20.0}
SOURCE = random_source()
STD = 2.0
WIDTH = 1024  # arrays that are worth dividing


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


def divided_training(num_devices, shard_optimizer, first=None, steps=STEPS):
    """A step with all that it can do beside the gradient, and the state after some of them."""
    mesh, average = make_data_mesh(num_devices), ParameterAverage(0.9)
    optimizer = make_optimizer(1e-2, 1e-3, clip_norm=0.5)
    step = make_train_step(
        predict,
        optimizer,
        EnergyForceObjective(energy_std=STD, **WEIGHTS),
        mesh,
        accumulate=2,
        average=average,
        skip_nonfinite=True,
        shard_optimizer=shard_optimizer,
    )
    state = first
    if first is None:
        state = create_train_state(initial_params(WIDTH), optimizer, jax.random.key(0), True)
    state = jax.device_put(state, state_sharding(state, mesh, shard_optimizer))
    graph = place_batch(whole_source(num_devices, slack=2, accumulate=2), mesh)
    for _ in range(steps):
        before = state
        state, means = step(state, graph)
        assert all(leaf.is_deleted() for leaf in jax.tree.leaves(before)), "not donated"
    return step, state, means


def check_divided_state():
    """Optimizer and average divided over devices: the same numbers in an eighth of the bytes."""
    _, expected, expected_means = divided_training(1, False)
    step, state, means = divided_training(8, True)
    assert_same(means, expected_means, rtol=1e-11)
    assert_same(numbers_of(state), numbers_of(expected), rtol=1e-10, atol=1e-14)
    kernel = ("inner", "kernel")
    moments = state.opt_state[1][0]
    for tree in (moments.mu, moments.nu, state.ema_params):
        leaf = tree[kernel[0]][kernel[1]]
        assert leaf.sharding.spec == PartitionSpec("data")
        assert [shard.data.shape for shard in leaf.addressable_shards] == [(WIDTH // 8,)] * 8
    assert all(leaf.sharding.is_fully_replicated for leaf in jax.tree.leaves(state.params))
    graph = place_batch(whole_source(8, slack=2, accumulate=2), make_data_mesh(8))
    program = step.lower(state, graph).compile().as_text()
    assert "reduce-scatter" in program and "all-gather" in program
    # Half of the steps on eight devices, the others on two, and on one without the switch.
    for num_devices, shard_optimizer in ((2, True), (1, False)):
        _, half, _ = divided_training(8, True, steps=STEPS // 2)
        rest = STEPS - STEPS // 2
        _, moved, _ = divided_training(num_devices, shard_optimizer, half, steps=rest)
        assert_same(numbers_of(moved), numbers_of(expected), rtol=1e-10, atol=1e-14)


def check_divided_ensemble():
    """The same of several models: what is divided is each model's, not the models."""
    optimizer, states = make_optimizer(1e-2, 1e-3), []
    for num_devices, shard_optimizer in ((1, False), (8, True)):
        mesh = make_data_mesh(num_devices)
        objective = EnergyForceObjective(energy_std=STD, **WEIGHTS)
        step = make_ensemble_train_step(
            predict, optimizer, objective, mesh, shard_optimizer=shard_optimizer
        )
        params = stack_members([initial_params(WIDTH)] * 2)
        state = ensemble_state(
            lambda params, key: create_train_state(params, optimizer, key),
            params,
            jax.random.key(0),
        )
        places = state_sharding(state, mesh, shard_optimizer, has_members=True)
        state = jax.device_put(state, places)
        graph = place_batch(whole_source(num_devices, slack=1), mesh)
        for _ in range(2):
            state, _ = step(state, graph)
        states.append(state)
    moment = states[1].opt_state[0].mu["inner"]["kernel"]
    assert moment.sharding.spec == PartitionSpec(None, "data")
    assert_same(numbers_of(states[1]), numbers_of(states[0]), rtol=1e-10, atol=1e-14)


def numbers_of(state):
    """The state with numbers in place of its random key."""
    return jax.device_get(state.replace(rng=jax.random.key_data(state.rng)))


def assert_same(left, right, **tolerance):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **tolerance), left, right)


def main():
    check_divided_state()
    check_divided_ensemble()
    print("divided states agree", flush=True)
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

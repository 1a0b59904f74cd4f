from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from equiformer_jax.data import batching
from equiformer_jax.training import make_optimizer
from equiformer_jax.training.averages import ParameterAverage
from equiformer_jax.training.ensemble import make_ensemble_train_step, member, stack_members
from equiformer_jax.training.objectives import EnergyForceObjective
from equiformer_jax.training.sharding import make_data_mesh, place_batch, replicate
from equiformer_jax.training.state import create_train_state
from equiformer_jax.training.step import make_train_step
from tests.training.small_potential import initial_params, predict, random_source

MEMBERS, STEPS = 3, 3
OPTIMIZER = make_optimizer(1e-2, 1e-3, clip_norm=50.0)
SETTINGS = (predict, OPTIMIZER, EnergyForceObjective(2.0, force_weight=5.0))
OPTIONS = {"accumulate": 2, "average": ParameterAverage(0.9), "skip_nonfinite": True}


def first_state(index):
    """The state of a training of its own: its initial parameters and its dropout key."""
    start = jax.random.key(index)
    params = jax.tree.map(
        lambda leaf: leaf + 0.1 * jax.random.normal(start, leaf.shape), initial_params()
    )
    params["noise"] = jnp.float64(0.5)
    return create_train_state(params, OPTIMIZER, jax.random.fold_in(start, 1), with_average=True)


def batch():
    source = random_source(4)
    parts = [np.arange(2), np.arange(2, 4)]
    budget = batching.budget_for([parts], source.sizes)
    micro = [batching.pack([source[i] for i in part], budget, source[0]) for part in parts]
    return batching.stack_for_devices([batching.stack_for_devices(micro)])


def test_every_member_trains_as_if_it_were_alone():
    mesh = make_data_mesh(1)
    graph = place_batch(batch(), mesh)
    together = make_ensemble_train_step(*SETTINGS, mesh, **OPTIONS)
    alone = make_train_step(*SETTINGS, mesh, **OPTIONS)
    stacked = replicate(stack_members([first_state(i) for i in range(MEMBERS)]), mesh)
    for _ in range(STEPS):
        stacked, stacked_means = together(stacked, graph)
    losses = []
    for index in range(MEMBERS):
        state = replicate(first_state(index), mesh)
        for _ in range(STEPS):
            state, means = alone(state, graph)
        ours = member(stacked, index)
        for name in ("params", "ema_params", "opt_state", "step"):
            jax.tree.map(
                lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-13),
                getattr(ours, name),
                getattr(state, name),
            )
        numbers = member(stacked_means, index)
        assert numbers.keys() == means.keys()
        for name, mean in means.items():
            np.testing.assert_allclose(numbers[name].value, mean.value, rtol=1e-10)
        losses.append(float(means["loss"].value))
    assert len(set(losses)) == MEMBERS


def test_one_member_may_skip_a_step_that_the_others_take():
    mesh = make_data_mesh(1)
    together = make_ensemble_train_step(*SETTINGS, mesh, **OPTIONS)
    states = [first_state(0), first_state(1)]
    states[1].params["noise"] = jnp.float64(np.inf)
    stacked, means = together(replicate(stack_members(states), mesh), place_batch(batch(), mesh))
    assert means["skipped"].total.tolist() == [0, 1]
    np.testing.assert_array_equal(
        member(stacked, 1).params["inner"]["kernel"], states[1].params["inner"]["kernel"]
    )
    assert stacked.step.tolist() == [1, 1]


def test_an_empty_ensemble_is_refused():
    with pytest.raises(ValueError, match="members: expected at least one"):
        stack_members([])

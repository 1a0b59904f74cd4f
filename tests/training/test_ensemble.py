from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from equiformer_jax.data import batching
from equiformer_jax.training import make_optimizer
from equiformer_jax.training.averages import ParameterAverage
from equiformer_jax.training.ensemble import (
    ensemble_state,
    init_members,
    make_ensemble_predict,
    make_ensemble_train_step,
    member,
    stack_members,
)
from equiformer_jax.training.objectives import EnergyForceObjective
from equiformer_jax.training.sharding import make_data_mesh, place_batch, replicate
from equiformer_jax.training.state import create_train_state
from equiformer_jax.training.step import make_train_step
from tests.training.small_potential import initial_params, predict, random_source

MEMBERS, STEPS = 3, 3
OPTIMIZER = make_optimizer(1e-2, 1e-3, clip_norm=50.0)
SETTINGS = (predict, OPTIMIZER, EnergyForceObjective(2.0, force_weight=5.0))
OPTIONS = {"accumulate": 2, "average": ParameterAverage(0.9), "skip_nonfinite": True}
KEY = jax.random.key(7)


def init(key, graph=None):
    """Initial parameters of one member."""
    params = jax.tree.map(
        lambda leaf: leaf + 0.1 * jax.random.normal(key, leaf.shape), initial_params()
    )
    return params | {"noise": jnp.float64(0.5)}


def create(params, key):
    """The state of a training of its own."""
    return create_train_state(params, OPTIMIZER, key, with_average=True)


def batch():
    source = random_source(4)
    parts = [np.arange(2), np.arange(2, 4)]
    budget = batching.budget_for([parts], source.sizes)
    micro = [batching.pack([source[i] for i in part], budget, source[0]) for part in parts]
    return batching.stack_for_devices([batching.stack_for_devices(micro)])


@pytest.fixture(scope="module")
def mesh():
    return make_data_mesh(1)


@pytest.fixture(scope="module")
def together(mesh):
    return make_ensemble_train_step(*SETTINGS, mesh, **OPTIONS)


def test_every_member_trains_as_if_it_were_alone(mesh, together):
    graph = place_batch(batch(), mesh)
    alone = make_train_step(*SETTINGS, mesh, **OPTIONS)
    params = init_members(init, KEY, graph, MEMBERS)
    stacked = replicate(ensemble_state(create, params, KEY), mesh)
    for _ in range(STEPS):
        stacked, sums = together(stacked, graph)
    totals: dict[str, float] = {}
    losses = []
    for index in range(MEMBERS):
        key = jax.random.fold_in(KEY, index)
        state = replicate(create(init(key), key), mesh)
        for _ in range(STEPS):
            state, means = alone(state, graph)
        for name in ("params", "ema_params", "opt_state"):
            jax.tree.map(
                lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-13),
                member(getattr(stacked, name), index),
                getattr(state, name),
            )
        assert int(stacked.step) == int(state.step) == STEPS
        assert sums.keys() == means.keys()
        for name, mean in means.items():
            totals[name] = totals.get(name, 0.0) + float(mean.total)
        losses.append(float(means["loss"].value))
    for name, total in totals.items():
        np.testing.assert_allclose(sums[name].total, total, rtol=1e-10)
    assert len(set(losses)) == MEMBERS


def test_one_member_may_skip_a_step_that_the_others_take(mesh, together):
    params = [init(jax.random.key(0)), init(jax.random.key(1)), init(jax.random.key(2))]
    params[1]["noise"] = jnp.float64(np.inf)
    before = [np.array(one["inner"]["kernel"]) for one in params]
    state = ensemble_state(create, stack_members(params), KEY)
    state, means = together(replicate(state, mesh), place_batch(batch(), mesh))
    assert (int(means["skipped"].total), int(means["skipped"].count)) == (1, MEMBERS)
    after = [member(state.params, index)["inner"]["kernel"] for index in range(MEMBERS)]
    same = [np.array_equal(a, b) for a, b in zip(after, before, strict=True)]
    assert same == [False, True, False]
    assert int(state.step) == 1


def test_an_ensemble_predicts_the_mean_and_the_spread_of_its_members():
    graph = jax.tree.map(lambda leaf: jnp.asarray(leaf)[0, 0], batch())
    params = [init(jax.random.key(index)) for index in range(MEMBERS)]
    alone = [predict(one, graph, None) for one in params]
    found = make_ensemble_predict(predict)(stack_members(params), graph, None)
    assert found.keys() == alone[0].keys() | {"spread_energy", "spread_forces"}
    for name in ("energy", "forces"):
        values = np.stack([one[name] for one in alone])
        np.testing.assert_allclose(found[name], values.mean(0), rtol=1e-12, atol=1e-14)
        np.testing.assert_allclose(found[f"spread_{name}"], values.std(0), rtol=1e-10, atol=1e-12)
    assert np.all(found["spread_energy"][:2] > 0)


def test_an_empty_ensemble_is_refused():
    with pytest.raises(ValueError, match="members: expected at least one"):
        stack_members([])

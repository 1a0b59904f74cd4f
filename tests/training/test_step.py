from __future__ import annotations

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from equiformer_jax.data import batching
from equiformer_jax.training import make_optimizer
from equiformer_jax.training.objectives import EnergyForceObjective
from equiformer_jax.training.sharding import make_data_mesh, place_batch, replicate
from equiformer_jax.training.state import count_parameters, create_train_state
from equiformer_jax.training.step import make_train_step
from tests.paths import REPOSITORY
from tests.training.small_potential import initial_params, predict, random_source


def test_any_number_of_devices_gives_the_step_of_the_whole_batch():
    """Uneven graphs, uneven padding, even devices without a graph: the same loss and weights."""
    flags = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
    finished = subprocess.run(
        [sys.executable, "-m", "tests.training.whole_batch"],
        cwd=REPOSITORY,
        env={**os.environ, "XLA_FLAGS": flags, "JAX_ENABLE_X64": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.count("devices agree") == 4


def one_device_step(params):
    mesh, optimizer = make_data_mesh(1), make_optimizer(1e-3, 0.0)
    objective = EnergyForceObjective(energy_std=1.0, force_weight=1.0)
    source = random_source(3)
    parts = [np.arange(3)]
    budget = batching.budget_for([parts], source.sizes)
    packed = batching.pack([source[i] for i in range(3)], budget, source[0])
    graph = place_batch(batching.stack_for_devices([packed]), mesh)
    step = make_train_step(predict, optimizer, objective, mesh)
    state = create_train_state(params, optimizer, jax.random.key(7))
    return step, lambda: replicate(jax.tree.map(jnp.copy, state), mesh), graph


def test_random_numbers_depend_on_the_key_of_the_run_and_the_step_alone():
    step, fresh, graph = one_device_step({**initial_params(), "noise": jnp.float64(1.0)})
    first, first_means = step(fresh(), graph)
    _, again = step(fresh(), graph)
    later = fresh().replace(step=jnp.int32(1))
    _, later_means = step(later, graph)
    assert float(first_means["loss"].value) == float(again["loss"].value)
    assert float(first_means["loss"].value) != float(later_means["loss"].value)
    assert int(first.step) == 1
    # The key itself never moves, so a resumed run goes on with the same draws.
    assert jax.random.key_data(first.rng).tolist() == jax.random.key_data(fresh().rng).tolist()


def test_the_state_is_donated():
    step, fresh, graph = one_device_step(initial_params())
    state = fresh()
    step(state, graph)
    assert state.params["inner"]["kernel"].is_deleted()


def test_parameters_are_counted():
    assert count_parameters(initial_params(width=7)) == 21


def test_more_devices_than_there_are_are_refused():
    with pytest.raises(ValueError, match="99 devices asked for"):
        make_data_mesh(99)

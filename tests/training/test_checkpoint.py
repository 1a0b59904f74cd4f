from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from equiformer_jax.data.statistics import DatasetStatistics
from equiformer_jax.training import make_optimizer
from equiformer_jax.training.checkpoint import Checkpoints, RunRecord
from equiformer_jax.training.errors import CheckpointMismatchError
from equiformer_jax.training.sharding import make_data_mesh, replicate
from equiformer_jax.training.state import create_train_state
from tests.training.small_potential import initial_params

STATISTICS = DatasetStatistics(10, -0.1 - 1e-16, 1 / 3, 15.2, 21.0, 0.7)
CONFIG = {"seed": 1, "model": {"num_layers": 6}, "training": {"log_every_steps": 0}}


def state_with(value):
    params = initial_params()
    params["inner"]["kernel"] += value
    optimizer = make_optimizer(1e-3, 1e-2)
    state = create_train_state(params, optimizer, jax.random.key(5))
    return replicate(state.replace(step=jnp.int32(17)), make_data_mesh(1))


def record_after(epoch, loss=1.0):
    return RunRecord(
        config=CONFIG,
        statistics=STATISTICS,
        epoch=epoch,
        metrics={"validation_loss": loss},
        package_version="1.2.3",
    )


def assert_same_state(left, right):
    assert jax.tree.structure(left) == jax.tree.structure(right)
    for a, b in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True):
        assert a.dtype == b.dtype
        if jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
            a, b = jax.random.key_data(a), jax.random.key_data(b)
        np.testing.assert_array_equal(a, b)


def test_state_and_record_come_back_bit_for_bit(tmp_path):
    state = state_with(0.25)
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.latest_epoch is None
        checkpoints.save(state, record_after(3))
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.latest_epoch == 3
        assert_same_state(checkpoints.restore_state(3, state_with(0.0)), state)
        params = checkpoints.restore_params(3, state_with(0.0).params)
        assert_same_state(params, state.params)
        assert checkpoints.read_record(3) == record_after(3)


def test_a_save_is_not_disturbed_by_what_happens_to_the_buffers_next(tmp_path):
    """Saving goes on in the background while the next step reuses the donated state."""
    overwrite = jax.jit(
        lambda state: state.replace(params=jax.tree.map(lambda x: x * 0, state.params)),
        donate_argnums=0,
    )
    params = {"kernel": jnp.arange(3_000_000.0)}
    state = create_train_state(params, make_optimizer(1e-3, 0.0), jax.random.key(0))
    state = replicate(state, make_data_mesh(1))
    template = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), state)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(state, record_after(1))
        for _ in range(3):
            state = overwrite(state)
    with Checkpoints(tmp_path) as checkpoints:
        restored = checkpoints.restore_params(1, template.params)
    np.testing.assert_array_equal(restored["kernel"], np.arange(3_000_000.0))


def test_the_newest_and_the_best_are_kept(tmp_path):
    state = state_with(0.0)
    with Checkpoints(tmp_path, keep_latest=2) as checkpoints:
        for epoch, loss in enumerate([5.0, 1.0, 3.0, 4.0, 2.0], start=1):
            checkpoints.save(state, record_after(epoch, loss))
    with Checkpoints(tmp_path, keep_latest=2) as checkpoints:
        assert (checkpoints.latest_epoch, checkpoints.best_epoch) == (5, 2)
        kept = {int(path.name) for path in checkpoints.directory.iterdir() if path.is_dir()}
        assert kept == {2, 4, 5}
        checkpoints.save(state, record_after(6, 0.5))
    with Checkpoints(tmp_path, keep_latest=2) as checkpoints:
        assert checkpoints.best_epoch == 6


def test_another_configuration_is_refused_with_the_fields_that_differ(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(state_with(0.0), record_after(2))
        checkpoints._manager.wait_until_finished()
        other = {"seed": 1, "model": {"num_layers": 4}, "training": {"log_every_steps": 0}, "x": 1}
        with pytest.raises(CheckpointMismatchError) as error:
            checkpoints.check_configuration(2, other)
    lines = str(error.value).splitlines()
    assert str(tmp_path) in lines[0]
    assert lines[1:] == [
        "  model.num_layers: checkpoint 6, asked for 4",
        "  x: checkpoint '(absent)', asked for 1",
    ]


def test_what_only_changes_the_printing_may_differ(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(state_with(0.0), record_after(2))
        checkpoints._manager.wait_until_finished()
        other = {**CONFIG, "training": {"log_every_steps": 10}}
        assert checkpoints.check_configuration(2, other) == record_after(2)


def test_a_newer_format_is_refused_by_name(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(state_with(0.0), dataclasses.replace(record_after(2), format_version=99))
        checkpoints._manager.wait_until_finished()
        with pytest.raises(ValueError, match=r"checkpoints/2: checkpoint format 99"):
            checkpoints.read_record(2)

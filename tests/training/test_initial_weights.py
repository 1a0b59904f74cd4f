from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from equiformer_jax.models.torch_checkpoint import variables_from_torch
from equiformer_jax.models.torch_layout import parameter_slots
from equiformer_jax.training.checkpoint import Checkpoints
from equiformer_jax.training.errors import CheckpointDamagedError, InitialWeightsError
from equiformer_jax.training.initial_weights import load_initial_params
from equiformer_jax.training.sharding import make_data_mesh, replicated_sharding
from tests import pickle_assembler as asm
from tests.models.small_models import small_config
from tests.training.endless_saves import record_after, state_after

CONFIG = small_config("md17_l2")


def like(params, dtype=np.float64):
    """Shapes, types and places of parameters."""
    sharding = replicated_sharding(make_data_mesh(1))
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, dtype, sharding=sharding), params
    )


def assert_equal(actual, expected, template):
    assert jax.tree.structure(actual) == jax.tree.structure(template)
    for a, b, t in zip(*map(jax.tree.leaves, (actual, expected, template)), strict=True):
        assert (a.dtype, a.sharding) == (t.dtype, t.sharding)
        np.testing.assert_array_equal(a, np.asarray(b, t.dtype))


# --- Of another run ---


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("run")
    with Checkpoints(workdir) as checkpoints:
        for step, loss in [(1, 0.1), (2, 0.2)]:
            checkpoints.save(state_after(step), record_after(step, loss))
    return workdir


@pytest.mark.parametrize(("place", "step"), [(".", 2), ("checkpoints/1", 1), ("checkpoints/2", 2)])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_parameters_of_another_run(place, step, dtype, workdir):
    expected = state_after(step).params
    template = like(expected, dtype)
    assert_equal(load_initial_params(workdir / place, template, CONFIG), expected, template)


def test_the_newest_parameters_are_taken_not_their_average(workdir):
    params = load_initial_params(workdir, like(state_after(0).params), CONFIG)
    kernel, state = params["inner"]["kernel"], state_after(2)
    assert jnp.array_equal(kernel, state.params["inner"]["kernel"])
    assert not jnp.array_equal(kernel, state.ema_params["inner"]["kernel"])


def test_parameters_that_do_not_fit_are_all_named(workdir):
    template = like(state_after(0).params)
    template["inner"] = {
        "kernel": jax.ShapeDtypeStruct((8,), np.float64),
        "shift": template["inner"]["bias"],
    }
    with pytest.raises(InitialWeightsError) as error:
        load_initial_params(workdir, template, CONFIG)
    assert str(error.value).endswith(
        f"{workdir}/checkpoints/2 are not those of this model; missing: inner/shift; "
        "unexpected: inner/bias; of another shape: inner/kernel (is (7,), expected (8,))"
    )


def test_a_damaged_checkpoint_is_named(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(state_after(1), record_after(1))
    (tmp_path / "checkpoints" / "1" / "params" / "_METADATA").write_text("{")
    with pytest.raises(CheckpointDamagedError, match=r"checkpoints/1 is damaged: params/_METADATA"):
        load_initial_params(tmp_path, like(state_after(0).params), CONFIG)


def test_a_run_without_a_checkpoint_is_told(tmp_path):
    Checkpoints(tmp_path).close()
    with pytest.raises(InitialWeightsError, match="it holds no checkpoint"):
        load_initial_params(tmp_path, {}, CONFIG)


@pytest.mark.parametrize("name", [".", "nowhere", "checkpoints/7"])
def test_what_is_nothing_to_start_from_is_told(name, tmp_path):
    with pytest.raises(InitialWeightsError, match="expected the workdir of a run, one of its"):
        load_initial_params(tmp_path / name, {}, CONFIG)
    assert list(tmp_path.iterdir()) == []


# --- Of the PyTorch release ---


def official_parameters():
    generator = np.random.default_rng(0)
    return {
        slot.name: generator.normal(size=slot.shape).astype(np.float32)
        for slot in parameter_slots(CONFIG)
    }


def write_torch_file(path, parameters):
    storages = {
        name: asm.Storage("torch.FloatStorage", str(number), value.tobytes(), value.size)
        for number, (name, value) in enumerate(parameters.items())
    }
    tensors = {
        name: asm.tensor(
            storages[name].mention(), value.shape, tuple(s // value.itemsize for s in value.strides)
        )
        for name, value in parameters.items()
    }
    asm.write_archive(path, {"state_dict": tensors}, *storages.values())
    return path


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_parameters_of_the_pytorch_release(dtype, tmp_path):
    official = official_parameters()
    path = write_torch_file(tmp_path / "model.pth.tar", official)
    expected = variables_from_torch(official, CONFIG)["params"]
    template = like(expected, dtype)
    assert_equal(load_initial_params(path, template, CONFIG), expected, template)


def test_official_parameters_that_do_not_fit_are_all_named(tmp_path):
    official = official_parameters()
    template = like(variables_from_torch(official, CONFIG)["params"])
    first, second, *_ = official
    del official[first]
    official[second] = np.zeros((3, 17), np.float32)
    path = write_torch_file(tmp_path / "model.pt", official)
    with pytest.raises(InitialWeightsError) as error:
        load_initial_params(path, template, CONFIG)
    for part in (str(path), f"missing: {first}", f"of another shape: {second} (is (3, 17)"):
        assert part in str(error.value)


def test_a_file_of_another_kind_is_told(tmp_path):
    path = tmp_path / "model.pt"
    path.write_text("weights")
    with pytest.raises(InitialWeightsError, match=r"cannot start from .*model\.pt"):
        load_initial_params(path, {}, CONFIG)

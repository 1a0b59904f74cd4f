from __future__ import annotations

import os
import pathlib
import random
import resource
import shutil
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from equiformer_jax.training.checkpoint import Checkpoints
from equiformer_jax.training.errors import (
    CheckpointDamagedError,
    CheckpointFormatError,
    CheckpointMismatchError,
    MissingAverageError,
    WorkdirError,
)
from tests.paths import REPOSITORY
from tests.training.endless_saves import CONFIG, record_after, state_after

ITEMS = ("record", "params", "training", "ema_params")


def assert_same_state(left, right):
    assert jax.tree.structure(left) == jax.tree.structure(right)
    for a, b in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True):
        assert a.dtype == b.dtype
        if jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
            a, b = jax.random.key_data(a), jax.random.key_data(b)
        np.testing.assert_array_equal(a, b)


def save_all(workdir, losses, **options):
    """Saves after 1, 2, ... steps with these losses."""
    with Checkpoints(workdir, **options) as checkpoints:
        for step, loss in enumerate(losses, start=1):
            checkpoints.save(state_after(step), record_after(step, loss))


def steps_kept(workdir, suffix="", folder="checkpoints"):
    names = [path.name for path in (pathlib.Path(workdir) / folder).iterdir()]
    # A save that failed may write on for a moment; the next start removes what it leaves.
    names = [name for name in names if not name.endswith(".orbax-checkpoint-tmp")]
    return sorted(int(name.removesuffix(suffix)) for name in names)


# --- What is saved comes back ---


@pytest.mark.parametrize("with_average", [True, False])
def test_state_and_record_come_back_bit_for_bit(with_average, tmp_path):
    state = state_after(3, with_average=with_average)
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.latest_step is None
        assert checkpoints.newest_good() is None
        checkpoints.save(state, record_after(3))
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.newest_good() == checkpoints.latest_step == 3
        template = state_after(0, with_average=with_average)
        assert_same_state(checkpoints.restore_state(3, template), state)
        params = checkpoints.restore_params(3, template.params)
        assert_same_state(params, state.params)
        assert checkpoints.read_record(3) == record_after(3)


def test_the_average_can_be_had_instead_of_the_parameters(tmp_path):
    state = state_after(3)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(state, record_after(3))
        average = checkpoints.restore_params(3, state.params, average=True)
    assert_same_state(average, state.ema_params)


def test_an_average_that_the_run_does_not_keep_is_told(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(state_after(3, with_average=False), record_after(3))
        with pytest.raises(MissingAverageError, match=r"checkpoints/3 has no average"):
            checkpoints.restore_params(3, state_after(0).params, average=True)
        with pytest.raises(MissingAverageError, match=r"checkpoints/3 has no average"):
            checkpoints.restore_state(3, state_after(0))


def test_a_save_is_not_disturbed_by_what_happens_to_the_buffers_next(tmp_path):
    """Saving goes on in the background while the next step reuses the donated state."""
    overwrite = jax.jit(
        lambda state: state.replace(params=jax.tree.map(lambda x: x * 0, state.params)),
        donate_argnums=0,
    )
    state = state_after(1).replace(params={"kernel": jnp.arange(3_000_000.0)})
    template = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), state)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(state, record_after(1))
        for _ in range(3):
            state = overwrite(state)
    with Checkpoints(tmp_path) as checkpoints:
        restored = checkpoints.restore_params(1, template.params)
    np.testing.assert_array_equal(restored["kernel"], np.arange(3_000_000.0))


# --- Which are kept, and which is the best ---


def test_the_newest_and_the_best_are_kept_with_their_digests(tmp_path):
    save_all(tmp_path, [5.0, 1.0, 3.0, 4.0, 2.0], keep_latest=2)
    with Checkpoints(tmp_path, keep_latest=2) as checkpoints:
        assert (checkpoints.latest_step, checkpoints.best_step) == (5, 2)
        assert steps_kept(tmp_path) == [2, 4, 5]
        assert steps_kept(tmp_path, ".json", "checkpoint_digests") == [2, 4, 5]
        checkpoints.save(state_after(6), record_after(6, 0.5))
    assert steps_kept(tmp_path) == [5, 6]
    with Checkpoints(tmp_path, keep_latest=2) as checkpoints:
        assert checkpoints.best_step == 6


@pytest.mark.parametrize("loss", [None, float("nan")])
def test_what_has_no_loss_is_never_the_best(loss, tmp_path):
    save_all(tmp_path, [loss, 3.0, 4.0, loss, loss], keep_latest=2)
    assert steps_kept(tmp_path) == [2, 4, 5]
    with Checkpoints(tmp_path) as checkpoints:
        assert (checkpoints.latest_step, checkpoints.best_step) == (5, 2)


def test_without_any_loss_there_is_no_best(tmp_path):
    save_all(tmp_path, [None, None])
    with Checkpoints(tmp_path) as checkpoints:
        assert (checkpoints.latest_step, checkpoints.best_step) == (2, None)


def test_what_is_there_already_is_not_written_again(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(state_after(3), record_after(3, 1.0))
        checkpoints.save(state_after(4), record_after(3, 0.5))
        assert_same_state(checkpoints.restore_state(3, state_after(0)), state_after(3))
        assert checkpoints.read_record(3) == record_after(3, 1.0)


# --- Which run it was ---


def test_another_configuration_is_refused_with_the_fields_that_differ(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(state_after(2), record_after(2))
        other = {"seed": 1, "model": {"num_layers": 4}, "training": {"log_every_steps": 0}, "x": 1}
        with pytest.raises(CheckpointMismatchError) as error:
            checkpoints.check_configuration(2, other)
    lines = str(error.value).splitlines()
    assert str(tmp_path) in lines[0]
    assert lines[1:] == [
        "  model.num_layers: checkpoint 6, asked for 4",
        "  x: checkpoint '(absent)', asked for 1",
    ]


def test_what_changes_no_weight_may_differ(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(state_after(2), record_after(2))
        training = {"log_every_steps": 10, "report": "best", "test_every_epochs": 5}
        other = {**CONFIG, "training": training, "data": {"workers": 2, "graph_cache": "here"}}
        assert checkpoints.check_configuration(2, other) == record_after(2)


def test_another_format_is_refused_by_name_and_stays_where_it_is(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(state_after(2), record_after(2, format_version=99))
        assert checkpoints.newest_good() == 2
        with pytest.raises(CheckpointFormatError, match=r"checkpoints/2: checkpoint format 99"):
            checkpoints.read_record(2)


# --- Damage ---


@pytest.fixture(scope="module")
def three_saves(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("three_saves")
    save_all(workdir, [1.0, 2.0, 3.0])
    return workdir


@pytest.fixture
def workdir(three_saves, tmp_path):
    """A copy of a workdir with three good checkpoints."""
    return shutil.copytree(three_saves, tmp_path / "workdir")


def largest_file(folder):
    return max((path for path in folder.rglob("*") if path.is_file()), key=os.path.getsize)


def cut_off(path):
    path.write_bytes(path.read_bytes()[:-7])


@pytest.mark.parametrize("item", ITEMS)
@pytest.mark.parametrize("with_digests", [True, False])
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(item, with_digests, workdir):
    if not with_digests:  # killed in the moment before they were written
        (workdir / "checkpoint_digests" / "3.json").unlink()
    damaged = largest_file(workdir / "checkpoints" / "3" / item)
    if item == "record" or with_digests:
        cut_off(damaged)
    else:
        (workdir / "checkpoints" / "3" / item / "_METADATA").unlink()
    said = []
    with Checkpoints(workdir, say=said.append) as checkpoints:
        assert checkpoints.newest_good() == checkpoints.latest_step == 2
        assert_same_state(checkpoints.restore_state(2, state_after(0)), state_after(2))
    (line,) = said
    assert f"{workdir / 'checkpoints' / '3'} is damaged: {item}" in line
    if with_digests:
        assert damaged.name in line
    assert line.endswith(f"moved to {workdir / 'damaged_checkpoints' / '3'}")
    assert steps_kept(workdir) == [1, 2]
    assert steps_kept(workdir, folder="damaged_checkpoints") == [3]
    assert steps_kept(workdir, ".json", "checkpoint_digests") == [1, 2]


def test_steps_whose_checkpoint_was_damaged_are_saved_again(workdir):
    for copies in (1, 2):
        cut_off(largest_file(workdir / "checkpoints" / "3" / "params"))
        with Checkpoints(workdir) as checkpoints:
            assert checkpoints.newest_good() == 2
            checkpoints.save(state_after(3), record_after(3))
            checkpoints.wait()
            assert checkpoints.latest_step == 3
            assert_same_state(checkpoints.restore_state(3, state_after(0)), state_after(3))
        assert len(list((workdir / "damaged_checkpoints").iterdir())) == copies


def test_a_damaged_checkpoint_is_not_the_best(workdir):
    cut_off(largest_file(workdir / "checkpoints" / "1"))
    with Checkpoints(workdir) as checkpoints:
        assert checkpoints.best_step == 1
        assert checkpoints.newest_good() == 3
        assert checkpoints.best_step == 2


def test_nothing_left_is_told(workdir):
    for step in (1, 2, 3):
        cut_off(largest_file(workdir / "checkpoints" / str(step)))
    said = []
    with Checkpoints(workdir, say=said.append) as checkpoints:
        assert checkpoints.newest_good() is None
        assert checkpoints.latest_step is None
    assert len(said) == 4
    assert said[-1] == f"no good checkpoint is left in {workdir / 'checkpoints'}"


@pytest.mark.parametrize("item", ITEMS)
def test_what_is_damaged_is_never_restored(item, workdir):
    damaged = largest_file(workdir / "checkpoints" / "3" / item)
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    with (
        Checkpoints(workdir) as checkpoints,
        pytest.raises(CheckpointDamagedError, match=f"checkpoints/3 is damaged: {item}/"),
    ):
        checkpoints.restore_params(3, state_after(0).params)


def test_a_record_that_cannot_be_read_is_named(workdir):
    (workdir / "checkpoints" / "3" / "record" / "metadata").write_text("{")
    with (
        Checkpoints(workdir) as checkpoints,
        pytest.raises(CheckpointDamagedError, match=r"checkpoints/3: cannot read its record"),
    ):
        checkpoints.read_record(3)


@pytest.mark.parametrize("name", ["4.orbax-checkpoint-tmp", "deleted/4"])
def test_leftovers_of_a_killed_save_are_ignored_by_readers_and_removed_by_the_trainer(
    name, workdir
):
    leftover = workdir / "checkpoints" / name
    shutil.copytree(workdir / "checkpoints" / "3", leftover)
    with Checkpoints(workdir) as checkpoints:
        assert checkpoints.latest_step == 3
        assert leftover.exists()
        assert checkpoints.newest_good() == 3
        assert not leftover.exists()


def test_old_digests_do_not_speak_about_a_new_checkpoint(workdir):
    """As where somebody has removed a checkpoint by hand, and the run is killed after its save."""
    shutil.rmtree(workdir / "checkpoints" / "3")
    with Checkpoints(workdir) as checkpoints:
        checkpoints._files.seal = lambda step: None
        checkpoints.save(state_after(3), record_after(3, 0.1))
    assert not (workdir / "checkpoint_digests" / "3.json").exists()
    with Checkpoints(workdir) as checkpoints:
        assert checkpoints.newest_good() == 3
    assert (workdir / "checkpoint_digests" / "3.json").exists()


@pytest.fixture
def small_files_only():
    """No file may grow beyond 100 kB: the system refuses to write more, as on a full disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of orbax
def test_a_save_that_fails_is_told_and_leaves_the_others(tmp_path, small_files_only):
    save_all(tmp_path, [1.0])
    with (
        pytest.raises(WorkdirError, match="a checkpoint could not be written: .*File too large"),
        Checkpoints(tmp_path) as checkpoints,
    ):
        checkpoints.save(state_after(2, width=200_000), record_after(2, 0.5))
        checkpoints.save(state_after(3), record_after(3))
    with Checkpoints(tmp_path) as checkpoints:
        assert (checkpoints.newest_good(), checkpoints.best_step) == (1, 1)
    assert steps_kept(tmp_path) == [1]


def test_at_least_one_checkpoint_is_kept(tmp_path):
    with pytest.raises(ValueError, match="keep_latest=0: expected at least 1"):
        Checkpoints(tmp_path, keep_latest=0)


# --- Killed at any moment ---


def start_saving(workdir):
    environment = {**os.environ, "JAX_ENABLE_X64": "1"}
    environment["XLA_FLAGS"] += " --xla_force_host_platform_device_count=8"
    return subprocess.Popen(
        [sys.executable, "-m", "tests.training.endless_saves", str(workdir)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
        env=environment,
    )


def test_a_run_killed_at_any_moment_leaves_what_can_be_restored_bit_for_bit(tmp_path):
    """Saved from eight devices, killed, restored onto one; each program goes on after the last."""
    workdir = tmp_path / "workdir"
    programs = [start_saving(workdir) for _ in range(3)]
    newest = 0
    for number, program in enumerate(programs):
        with program:
            program.stdin.write("go\n")
            program.stdin.flush()
            begun = [int(program.stdout.readline()) for _ in range(random.randint(2, 5))][-1]
            time.sleep(random.uniform(0, 0.2))
            program.kill()
        # In a copy: the next program finds what this one has left.
        copy, said = shutil.copytree(workdir, tmp_path / f"after_{number}"), []
        with Checkpoints(copy, say=said.append) as checkpoints:
            good = checkpoints.newest_good()
            assert said == []
            assert good >= begun - 1 > newest, "one save begins when the one before is complete"
            restored = checkpoints.restore_state(good, state_after(0, width=20_000))
            assert_same_state(restored, state_after(good, width=20_000))
            assert checkpoints.read_record(good) == record_after(good, loss=1 / good)
            assert checkpoints.best_step == good
        newest = good

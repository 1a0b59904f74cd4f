from __future__ import annotations

import dataclasses
import json
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import equiformer_jax as eqf
from equiformer_jax.data import catalog
from equiformer_jax.training import loop, trainer
from equiformer_jax.training.checkpoint import Checkpoints
from equiformer_jax.training.compiled import CompiledPerShape
from equiformer_jax.training.errors import (
    CheckpointMismatchError,
    RunInterruptedError,
    TrainingDivergedError,
    WorkdirError,
)
from equiformer_jax.training.interruption import Interruption
from equiformer_jax.training.metrics import read_metrics
from equiformer_jax.training.objectives import EnergyForceObjective
from equiformer_jax.training.shared_wish import SharedWish
from equiformer_jax.training.workdir import load_config
from tests.training.tiny_run import EPOCHS, tiny_config, tiny_splits


@pytest.fixture(scope="module")
def tiny_dataset():
    splits = tiny_splits()
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(catalog.DATASETS, "tiny", lambda: splits)
        yield splits


@pytest.fixture(scope="module")
def finished(tiny_dataset, tmp_path_factory):
    """A run that was never interrupted."""
    workdir = tmp_path_factory.mktemp("finished")
    return workdir, trainer.train(tiny_config(), workdir)


def final_state(workdir):
    """Everything that the last checkpoint holds, keys as numbers."""
    with Checkpoints(workdir) as checkpoints:
        restored = checkpoints._manager.restore(checkpoints.latest_step)

    def numbers(leaf):
        is_key = jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        return jax.random.key_data(leaf) if is_key else leaf

    return jax.tree.map(numbers, {name: restored[name] for name in ("params", "training")})


def test_a_run_leaves_what_it_promises(finished, tiny_dataset):
    workdir, evaluation = finished
    names = {path.name for path in workdir.iterdir()}
    assert names == {
        "config.json",
        "statistics.json",
        "run.json",
        "metrics.jsonl",
        "checkpoints",
        "checkpoint_digests",
        "tensorboard",
        "test_metrics.json",
    }
    records = read_metrics(workdir)
    assert [record["epoch"] for record in records] == [1, 2, 3]
    assert [record["step"] for record in records] == [2, 4, 6]
    assert records[0]["learning_rate"] == pytest.approx(1e-3)

    labels = [structure.energy for structure in tiny_dataset["test"]]
    np.testing.assert_allclose(evaluation.reference_energies, labels, rtol=1e-12)
    forces = np.concatenate([structure.forces for structure in tiny_dataset["test"]])
    np.testing.assert_allclose(evaluation.reference_forces, forces, rtol=1e-12)
    summary = json.loads((workdir / "test_metrics.json").read_text())
    energy_mae = 1000 * np.abs(evaluation.predicted_energies - labels).mean()
    force_mae = 1000 * np.abs(evaluation.predicted_forces - forces).mean()
    assert summary["energy_mae_mev"] == pytest.approx(energy_mae)
    assert summary["force_mae_mev_per_angstrom"] == pytest.approx(force_mae)
    assert summary["force_error_relative_to_zero"] == pytest.approx(
        force_mae / (1000 * np.abs(forces).mean())
    )


def test_predictions_are_those_of_the_model_alone(finished, tiny_dataset):
    workdir, evaluation = finished
    config = eqf.EquiformerConfig(**tiny_config().model)
    statistics = json.loads((workdir / "statistics.json").read_text())
    graphs = [eqf.build_graph(s, config.max_radius) for s in tiny_dataset["test"]]
    assert statistics["energy_std"] > 0
    energy, forces = eqf.energy_and_forces(
        eqf.Equiformer(config),
        {"params": final_state(workdir)["params"]},
        eqf.batch_graphs(graphs),
    )
    expected = statistics["energy_mean"] + statistics["energy_std"] * np.asarray(energy)[:5]
    np.testing.assert_allclose(evaluation.predicted_energies, expected, rtol=1e-10)
    atoms = len(evaluation.predicted_forces)
    expected = statistics["energy_std"] * np.asarray(forces)[:atoms]
    np.testing.assert_allclose(evaluation.predicted_forces, expected, rtol=1e-8, atol=1e-12)


def test_an_interrupted_run_ends_with_bit_identical_weights(finished, tmp_path, monkeypatch):
    """Stopped in its second epoch and started again, dropout on."""
    train_one_epoch = loop.train_one_epoch

    def stopped_in_the_second_epoch(run, state, position, *rest):
        if position.epoch == 1:
            raise KeyboardInterrupt
        return train_one_epoch(run, state, position, *rest)

    monkeypatch.setattr(loop, "train_one_epoch", stopped_in_the_second_epoch)
    with pytest.raises(KeyboardInterrupt):
        trainer.train(tiny_config(), tmp_path)
    monkeypatch.undo()
    assert [record["epoch"] for record in read_metrics(tmp_path)] == [1]

    evaluation = trainer.train(tiny_config(), tmp_path)
    workdir, uninterrupted = finished
    jax.tree.map(np.testing.assert_array_equal, final_state(tmp_path), final_state(workdir))
    np.testing.assert_array_equal(evaluation.predicted_forces, uninterrupted.predicted_forces)
    losses = [[record["loss"] for record in read_metrics(path)] for path in (tmp_path, workdir)]
    assert losses[0] == losses[1]


def ask_to_end_after(monkeypatch, steps):
    """Sends SIGTERM to this process when so many steps of a run are done."""
    original, done = CompiledPerShape.__call__, []

    def counted(self, *arguments):
        result = original(self, *arguments)
        if self._name == "training step":
            done.append(1)
            if len(done) == steps:
                signal.raise_signal(signal.SIGTERM)
        return result

    monkeypatch.setattr(CompiledPerShape, "__call__", counted)


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_a_run_that_is_asked_to_end_saves_and_goes_on_bit_for_bit(
    finished, tmp_path, monkeypatch, steps
):
    """In the middle of an epoch (two steps each) and at its end."""
    ask_to_end_after(monkeypatch, steps)
    with pytest.raises(RunInterruptedError, match=f"step {steps % 2} of epoch {steps // 2 + 1}"):
        trainer.train(tiny_config(), tmp_path)
    monkeypatch.undo()
    trainer.train(tiny_config(), tmp_path)
    jax.tree.map(np.testing.assert_array_equal, final_state(tmp_path), final_state(finished[0]))


def parameters_of_kept_checkpoints(workdir):
    """Those of the checkpoint before the last one, and of the last one."""
    with Checkpoints(workdir) as checkpoints:
        steps = sorted(checkpoints._manager.all_steps())[-2:]
        return [checkpoints._manager.restore(step)["params"] for step in steps]


def assert_same_leaves(left, right):
    jax.tree.map(np.testing.assert_array_equal, left, right)


def test_everything_beyond_the_recipes_together(tiny_dataset, tmp_path):
    """Average, clipping, micro-batches, freezing, references, skipping, tests on the way."""
    config = tiny_config(
        optimizer__ema_decay=0.9,
        optimizer__clip_norm=1.0,
        optimizer__freeze=("atom_embedding",),
        normalizer__reference_energies=True,
        normalizer__std=1.0,
        training__accumulate=2,
        training__skip_nonfinite=True,
        training__test_every_epochs=2,
        training__test_batches=1,
        training__report="best",
        objective__force_error="huber",
    )
    evaluation = trainer.train(config, tmp_path)
    earlier, last = parameters_of_kept_checkpoints(tmp_path)
    assert_same_leaves(earlier["atom_embedding"], last["atom_embedding"])
    with pytest.raises(AssertionError):
        assert_same_leaves(earlier["energy_head"], last["energy_head"])
    records = read_metrics(tmp_path)
    assert all(record["skipped_steps"] == 0 for record in records)
    assert all("ema_validation_energy_mae_mev" in record for record in records)
    assert ["test_energy_mae_mev" in record for record in records] == [False, True, False]
    with Checkpoints(tmp_path) as checkpoints:
        best = checkpoints.best_step

    def weighted_errors(record):  # SPEC §12.3; the weights are those of tiny_config
        force = record["validation_force_mae_mev_per_angstrom"]
        return record["validation_energy_mae_mev"] + 10.0 * force

    assert best == min(records, key=weighted_errors)["step"]
    again = trainer.evaluate(tmp_path, "test", checkpoint="best")
    np.testing.assert_allclose(again.predicted_energies, evaluation.predicted_energies, rtol=1e-12)
    averaged = trainer.evaluate(tmp_path, "test", average=True)
    assert not np.allclose(averaged.predicted_energies, again.predicted_energies, rtol=1e-9)


def test_a_run_can_start_from_the_weights_of_another(finished, tmp_path, capsys):
    workdir, evaluation = finished
    standing_still = {
        "schedule__warmup_lr": 0.0,
        "schedule__min_lr": 0.0,
        "optimizer__learning_rate": 0.0,
        "training__num_epochs": 1,
    }
    config = tiny_config(training__start_from=str(workdir), **standing_still)
    again = trainer.train(config, tmp_path)
    assert f"starting from the weights of {workdir}" in capsys.readouterr().out
    np.testing.assert_allclose(again.predicted_energies, evaluation.predicted_energies, rtol=1e-12)


def test_a_finished_run_says_so_and_evaluates_again(finished, capsys):
    workdir, evaluation = finished
    again = trainer.train(tiny_config(), workdir)
    assert "finished already" in capsys.readouterr().out
    np.testing.assert_array_equal(again.predicted_energies, evaluation.predicted_energies)


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_a_workdir_is_all_that_an_evaluation_needs(finished, split):
    workdir, evaluation = finished
    again = trainer.evaluate(workdir, split)
    assert (workdir / f"{split}_metrics.json").exists()
    if split == "test":
        np.testing.assert_allclose(
            again.predicted_energies, evaluation.predicted_energies, rtol=1e-12
        )


def test_another_configuration_is_refused_before_any_data_are_read(finished):
    config = tiny_config(optimizer__learning_rate=5e-3)
    config.data.name = "never read"
    with pytest.raises(CheckpointMismatchError, match=r"optimizer\.learning_rate") as error:
        trainer.train(config, finished[0])
    assert "data.name" in str(error.value)


@pytest.mark.parametrize("limit", ["max_nodes", "max_edges"])
def test_data_that_are_too_large_for_a_device_are_refused_before_compiling(
    tiny_dataset, tmp_path, capsys, limit
):
    with pytest.raises(ValueError, match=r"tiny, train: structure \d.*no more than 5"):
        trainer.train(tiny_config(**{f"data__{limit}": 5}), tmp_path)
    assert "compiling" not in capsys.readouterr().out


def without_first_step(self, step):
    """Weights of a loss that is not finite in the first step of a run alone."""
    broken = jnp.where(step == 0, jnp.nan, 1.0)
    return {"energy": self.energy_weight * broken, "force": self.force_weight * broken}


@pytest.mark.parametrize("interval", [0, 1])
def test_a_step_that_is_skipped_stops_no_run(tiny_dataset, tmp_path, monkeypatch, interval):
    monkeypatch.setattr(EnergyForceObjective, "weights_at", without_first_step)
    config = tiny_config(training__skip_nonfinite=True, training__log_every_steps=interval)
    trainer.train(config, tmp_path)
    epochs = [record for record in read_metrics(tmp_path) if record["kind"] == "epoch"]
    assert [record["skipped_steps"] for record in epochs] == [1, 0, 0]
    assert all(np.isfinite(record["loss"]) for record in epochs)


def test_an_epoch_of_which_nothing_is_left_stops_the_run(tiny_dataset, tmp_path, monkeypatch):
    always = {"energy": float("nan"), "force": 1.0}
    monkeypatch.setattr(EnergyForceObjective, "weights_at", lambda self, step: always)
    with pytest.raises(TrainingDivergedError, match="epoch 1: every one of its 2 steps"):
        trainer.train(tiny_config(training__skip_nonfinite=True), tmp_path)


def test_the_last_checkpoint_is_complete_before_a_signal_can_end_the_program(
    tiny_dataset, tmp_path, monkeypatch
):
    moments = []

    def noted(kind, name):
        original = getattr(kind, name)

        def note(self, *arguments):
            moments.append(name)
            return original(self, *arguments)

        monkeypatch.setattr(kind, name, note)

    noted(Checkpoints, "save")
    noted(Checkpoints, "wait")
    noted(Interruption, "__exit__")
    trainer.train(tiny_config(), tmp_path)
    handled = moments[: moments.index("__exit__")]
    last_save = len(handled) - 1 - handled[::-1].index("save")
    assert handled[last_save + 1 :].count("wait") == 2  # that of `save` itself, and another


def test_a_run_that_diverges_names_the_step_and_the_last_good_checkpoint(
    tiny_dataset, tmp_path, monkeypatch
):
    train_one_epoch = loop.train_one_epoch

    def with_a_broken_weight_later(run, state, position, *rest):
        if position.epoch == 2:
            params = jax.tree.map(lambda leaf: leaf * np.nan, state.params)
            state = state.replace(params=params)
        return train_one_epoch(run, state, position, *rest)

    monkeypatch.setattr(loop, "train_one_epoch", with_a_broken_weight_later)
    with pytest.raises(TrainingDivergedError, match=r"step 4 \(epoch 3\).*checkpoints/4") as error:
        trainer.train(tiny_config(training__log_every_steps=1), tmp_path)
    assert str(error.value).count("tiny, train: structure") == 4


def test_progress_is_told_and_validated_inside_an_epoch_where_asked_for(finished, tmp_path, capsys):
    config = tiny_config(
        training__log_every_steps=1, training__validate_every_steps=1, training__keep_checkpoints=9
    )
    trainer.train(config, tmp_path)
    records = read_metrics(tmp_path)
    assert [record["kind"] for record in records] == ["steps", "epoch"] * EPOCHS
    with Checkpoints(tmp_path) as checkpoints:
        for record in records:
            saved = checkpoints.read_record(record["step"])
            assert saved.metrics["validation_selection"] == record["validation_selection"]
        best = min(records, key=lambda record: record["validation_selection"])
        assert checkpoints.best_step == best["step"]
    jax.tree.map(np.testing.assert_array_equal, final_state(tmp_path), final_state(finished[0]))
    lines = capsys.readouterr().out
    for expected in ("devices: 1 x cpu", "parameters", "compiled training step in", "meV/Å"):
        assert expected in lines
    assert "structures/s" in lines


def test_a_workdir_that_cannot_be_written_is_told_at_once(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(WorkdirError, match="cannot write to the workdir"):
        trainer.train(tiny_config(), tmp_path / "file" / "run")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"checkpoint": "newest"}, "checkpoint='newest'; expected 'best', 'latest' or a number"),
        ({"checkpoint": "-1"}, "checkpoint='-1'; expected"),
        ({"split": "tset"}, "split='tset'; known are"),
    ],
)
def test_what_to_evaluate_is_checked(finished, arguments, message):
    with pytest.raises(ValueError, match=message):
        trainer.evaluate(finished[0], **arguments)


def test_data_that_have_changed_since_the_run_began_are_refused(finished, monkeypatch):
    changed = tiny_splits()
    changed["train"][0] = dataclasses.replace(changed["train"][0], energy=-300.0)
    monkeypatch.setitem(catalog.DATASETS, "tiny", lambda: changed)
    with pytest.raises(ValueError, match="not those that this run began with: energy_mean was"):
        trainer.train(tiny_config(), finished[0])


def test_other_data_can_be_evaluated_under_a_name_of_their_own(finished, tiny_dataset, monkeypatch):
    workdir, evaluation = finished
    config = load_config(workdir)
    config.data.options = {"test": None, "count": 3}
    monkeypatch.setattr(trainer, "load_config", lambda path: config)

    def load_tiny(test, count):
        return tiny_dataset | {"test": tiny_dataset[test or "test"][:count]}

    monkeypatch.setitem(catalog.DATASETS, "tiny", load_tiny)
    with pytest.raises(ValueError, match=r"\['count', 'tset'\] cannot be others, only \['test'\]"):
        trainer.evaluate(workdir, options={"tset": "x", "count": "1"}, name="other")
    for options, name in (({"test": "train"}, None), ({}, "other"), ({"test": "train"}, "test")):
        with pytest.raises(ValueError, match="other data need both options and a name"):
            trainer.evaluate(workdir, options=options, name=name)
    other = trainer.evaluate(workdir, options={"test": "train"}, name="other")
    assert other.split == "other"
    labels = [structure.energy for structure in tiny_dataset["train"][:3]]
    np.testing.assert_allclose(other.reference_energies, labels, rtol=1e-12)
    summary = json.loads((workdir / "other_metrics.json").read_text())
    assert summary["num_structures"] == 3
    (workdir / "other_metrics.json").unlink()


def test_a_stop_loses_no_validation(tiny_dataset, tmp_path, monkeypatch):
    config = tiny_config(training__validate_every_steps=1, training__keep_checkpoints=9)
    monkeypatch.setattr(SharedWish, "after_step", lambda self: True)
    with pytest.raises(RunInterruptedError, match="before step 1 of epoch 1"):
        trainer.train(config, tmp_path)
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.best_step == checkpoints.latest_step == 1
    assert [record["step"] for record in read_metrics(tmp_path)] == [1]


def test_the_errors_that_are_written_say_of_which_weights(finished, tmp_path):
    workdir, evaluation = finished
    evaluation.save_summary(tmp_path)
    summary = json.loads((tmp_path / "test_metrics.json").read_text())
    assert summary["weights"] == evaluation.weights == "the last ones, after 6 steps"


def test_a_folder_that_is_no_workdir_is_told(tmp_path):
    with pytest.raises(WorkdirError, match="is not the workdir of a run"):
        trainer.evaluate(tmp_path)


def test_unknown_data_and_fields_are_named(tiny_dataset, tmp_path):
    config = tiny_config()
    config.data.name = "tinny"
    with pytest.raises(ValueError, match="unknown data set 'tinny'.*tiny"):
        trainer.train(config, tmp_path)
    with pytest.raises(ValueError, match="limit of split 'train' is 0"):
        catalog.load_dataset("tiny", limits={"train": 0})
    with pytest.raises(ValueError, match="unknown split 'trian'"):
        catalog.load_dataset("tiny", limits={"trian": 3})

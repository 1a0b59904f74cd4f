from __future__ import annotations

import math
import struct

import pytest
from tensorboardX.proto.event_pb2 import Event, SessionLog

from equiformer_jax.training.tensorboard import ScalarWriter

RECORD = {
    "kind": "epoch",
    "epoch": 3,
    "step": 12,
    "step_of_epoch": 4,
    "learning_rate": 0.5,
    "loss": 2.0,
    "validation_loss": 0.25,
    "train_force_mae_mev_per_angstrom": 7.0,
    "train_loss/energy": 1.0,
    "validation_energy_mae_mev": 8.0,
    "ema_validation_energy_mae_mev": 9.0,
    "test_energy_mae_mev": 10.0,
    "skipped_steps": 1,
    "note": "a text",
    "flag": True,
}


def events(path):
    """What a file of events says: length, checksum, event, checksum; again and again."""
    content, place = path.read_bytes(), 0
    while place < len(content):
        (length,) = struct.unpack_from("<Q", content, place)
        yield Event.FromString(content[place + 12 : place + 12 + length])
        place += 16 + length


def files(workdir):
    """In the order in which TensorBoard reads them, that of their names."""
    return sorted((workdir / "tensorboard").iterdir())


def scalars(workdir):
    """What TensorBoard shows: what a restart takes back is gone."""
    shown = {}
    for path in files(workdir):
        for event in events(path):
            if event.session_log.status == SessionLog.START:
                shown = {key: value for key, value in shown.items() if key[0] < event.step}
            for value in event.summary.value:
                key = event.step, value.tag
                assert key not in shown, "told twice"
                shown[key] = value.simple_value
    return shown


def test_every_number_is_written_at_its_step(tmp_path):
    with ScalarWriter(tmp_path) as writer:
        writer.write(RECORD)
    assert scalars(tmp_path) == {
        (12, "run/learning_rate"): 0.5,
        (12, "run/loss"): 2.0,
        (12, "run/skipped_steps"): 1.0,
        (12, "train/force_mae_mev_per_angstrom"): 7.0,
        (12, "train/loss/energy"): 1.0,
        (12, "validation/loss"): 0.25,
        (12, "validation/energy_mae_mev"): 8.0,
        (12, "ema_validation/energy_mae_mev"): 9.0,
        (12, "test/energy_mae_mev"): 10.0,
    }


def test_parts_of_epochs_are_curves_of_their_own(tmp_path):
    with ScalarWriter(tmp_path) as writer:
        writer.write({"kind": "steps", "epoch": 1, "step": 2, "loss": 3.0})
        writer.write({"kind": "epoch", "epoch": 1, "step": 2, "loss": 4.0})
    assert scalars(tmp_path) == {(2, "steps/loss"): 3.0, (2, "run/loss"): 4.0}


def test_resuming_takes_back_what_comes_after_the_checkpoint(tmp_path):
    with ScalarWriter(tmp_path) as writer:
        for step in (4, 8, 12):
            writer.write({"kind": "epoch", "epoch": step // 4, "step": step, "loss": step})
    with ScalarWriter(tmp_path, steps_done=8) as writer:
        for step in (12, 16):
            writer.write({"kind": "epoch", "epoch": step // 4, "step": step, "loss": -step})
    assert len(files(tmp_path)) == 2
    assert scalars(tmp_path) == {
        (4, "run/loss"): 4.0,
        (8, "run/loss"): 8.0,
        (12, "run/loss"): -12.0,
        (16, "run/loss"): -16.0,
    }


def test_a_record_can_be_seen_at_once(tmp_path):
    with ScalarWriter(tmp_path) as writer:
        writer.write({"kind": "epoch", "epoch": 1, "step": 4, "loss": 1.0})
        assert scalars(tmp_path) == {(4, "run/loss"): 1.0}


def test_numbers_that_are_not_finite_are_shown(tmp_path):
    with ScalarWriter(tmp_path) as writer:
        writer.write({"kind": "epoch", "epoch": 1, "step": 4, "loss": math.nan})
    assert math.isnan(scalars(tmp_path)[4, "run/loss"])


def test_the_file_is_ended_when_the_run_fails(tmp_path):
    def fail():
        with ScalarWriter(tmp_path) as writer:
            writer.write({"kind": "epoch", "epoch": 1, "step": 4, "loss": 1.0})
            raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        fail()
    assert scalars(tmp_path) == {(4, "run/loss"): 1.0}

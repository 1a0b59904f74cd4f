from __future__ import annotations

from types import SimpleNamespace

import pytest

from equiformer_jax.data.pipeline import Position
from equiformer_jax.training.epoch import _Steps
from equiformer_jax.training.errors import TrainingDivergedError

RUN = SimpleNamespace(
    length=SimpleNamespace(steps_per_epoch=1000),
    data=SimpleNamespace(names_of_batch=lambda epoch, step: [f"structure {epoch} {step}"]),
)


def steps_with(losses):
    checkpoints = SimpleNamespace(latest_step=None)
    steps = _Steps(RUN, Position(2, 10), checkpoints)
    steps.pending = [{"loss": SimpleNamespace(total=loss)} for loss in losses]
    return steps


@pytest.fixture(autouse=True)
def nothing_to_wait_for(monkeypatch):
    monkeypatch.setattr("equiformer_jax.training.epoch.jax.device_get", list)


def totals(means):
    return [mean["loss"].total for mean in means]


def test_steps_are_checked_long_before_anything_is_printed():
    steps = steps_with([1.0, float("nan"), 3.0, 4.0, 5.0, 6.0])
    with pytest.raises(
        TrainingDivergedError, match=r"step 2011 .* loss not finite.*structure 2 11"
    ):
        steps.check_older()


def test_the_last_steps_are_left_alone_and_everything_is_printed_later():
    steps = steps_with([1.0, 2.0, 3.0, 4.0, 5.0, float("inf")])
    steps.check_older()
    assert totals(steps.finished) == [1.0, 2.0]
    steps.pending[-1] = {"loss": SimpleNamespace(total=6.0)}
    assert totals(steps.fetch()) == totals(steps.finished) == [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
    assert steps.fetch() == []

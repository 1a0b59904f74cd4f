from __future__ import annotations

from types import SimpleNamespace

import pytest

from equiformer_jax.training.retention import Retention
from tests.training.endless_saves import record_after


def kept(retention, steps):
    checkpoints = [SimpleNamespace(step=step) for step in steps]
    flags = retention.should_preserve(checkpoints, context=None)
    return {step for step, flag in zip(steps, flags, strict=True) if flag}


def test_the_newest_and_the_best_are_kept():
    retention = Retention(2)
    for step, loss in {3: 0.5, 6: 0.1, 9: 0.2}.items():
        retention.note(record_after(step, loss))
    assert kept(retention, [3, 6, 9]) == {6, 9}
    assert kept(retention, [3, 6, 9, 11, 12]) == {6, 11, 12}


def test_the_first_of_several_with_the_lowest_loss_is_the_best():
    retention = Retention(1)
    for step in (8, 4, 12):
        retention.note(record_after(step, 0.5))
    assert retention.best_of([12, 8, 4]) == 4


@pytest.mark.parametrize("loss", [None, float("nan"), float("inf")])
def test_what_was_not_validated_is_not_the_best(loss):
    retention = Retention(1)
    retention.note(record_after(4, loss))
    assert retention.best_of([4]) is None
    assert kept(retention, [4, 8]) == {8}

"""With one process; tests/experiments/test_hosts.py has two."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from equiformer_jax.training.sharding import make_data_mesh
from equiformer_jax.training.shared_wish import SharedWish


def test_a_single_process_stops_at_once_and_not_before():
    interruption = SimpleNamespace(requested=False)
    wish = SharedWish(interruption, make_data_mesh(1))
    assert not wish.after_step()
    assert not wish.now()
    interruption.requested = True
    assert wish.after_step()
    assert wish.now()


@pytest.mark.parametrize(
    ("steps_before", "answers"),
    [
        (0, [False] * 7 + [True] * 2),  # sent after step 4, seen after step 8
        (3, [False] * 4 + [True] * 2),  # sent at once
        (4, [False] * 7 + [True] * 2),  # just missed
    ],
)
def test_several_processes_see_the_same_wish_some_steps_later(steps_before, answers, monkeypatch):
    """As if the devices belonged to several processes, of which this is one."""
    interruption = SimpleNamespace(requested=False)
    wish = SharedWish(interruption, make_data_mesh(1))
    monkeypatch.setattr(wish, "_is_alone", False)
    assert not any(wish.after_step() for _ in range(steps_before))
    interruption.requested = True
    assert [wish.after_step() for _ in answers] == answers
    assert wish.now()


def test_processes_are_asked_after_every_fourth_step_only(monkeypatch):
    wish = SharedWish(SimpleNamespace(requested=False), make_data_mesh(1))
    monkeypatch.setattr(wish, "_is_alone", False)
    sums, add = [], wish._add
    monkeypatch.setattr(wish, "_add", lambda wishes: sums.append(wishes) or add(wishes))
    assert not any(wish.after_step() for _ in range(40))
    assert len(sums) == 10


def test_at_the_end_of_an_epoch_all_are_asked_at_once(monkeypatch):
    interruption = SimpleNamespace(requested=False)
    wish = SharedWish(interruption, make_data_mesh(1))
    monkeypatch.setattr(wish, "_is_alone", False)
    for _ in range(4):
        wish.after_step()
    interruption.requested = True
    assert wish.now()
    assert wish.after_step()

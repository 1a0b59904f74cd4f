"""With one process; tests/experiments/test_hosts.py has two."""

from __future__ import annotations

from types import SimpleNamespace

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


def test_several_processes_see_the_same_wish_some_steps_later(monkeypatch):
    """As if the devices belonged to several processes, of which this is one."""
    interruption = SimpleNamespace(requested=False)
    wish = SharedWish(interruption, make_data_mesh(1))
    monkeypatch.setattr(wish, "_is_alone", False)
    assert not any(wish.after_step() for _ in range(10))
    interruption.requested = True
    answers = [wish.after_step() for _ in range(6)]
    assert answers == [False] * 4 + [True] * 2
    assert wish.now()


def test_at_the_end_of_an_epoch_all_are_asked_at_once(monkeypatch):
    interruption = SimpleNamespace(requested=False)
    wish = SharedWish(interruption, make_data_mesh(1))
    monkeypatch.setattr(wish, "_is_alone", False)
    wish.after_step()
    interruption.requested = True
    assert wish.now()
    assert wish.after_step()

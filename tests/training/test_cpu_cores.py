from __future__ import annotations

import os

import jax
import pytest

from equiformer_jax.training import cpu_cores


@pytest.fixture
def machine(monkeypatch):
    """Six cores, of which jax has made one device, as in a notebook."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(6)))
    monkeypatch.setattr(jax, "device_count", lambda: 1)
    return monkeypatch


@pytest.mark.parametrize(("batch_size", "devices"), [(8, 6), (4, 4)])
def test_who_trains_on_one_of_several_cores_is_told_how_to_use_more(machine, batch_size, devices):
    note = cpu_cores.idle_cores_note(batch_size)
    assert "one of 6 cores" in note
    assert note.endswith(f"XLA_FLAGS=--xla_force_host_platform_device_count={devices}")


def test_nothing_is_said_where_nothing_is_to_be_gained(machine):
    assert cpu_cores.idle_cores_note(batch_size=1) is None
    machine.setattr(jax, "device_count", lambda: 2)
    assert cpu_cores.idle_cores_note(batch_size=8) is None
    machine.setattr(jax, "device_count", lambda: 1)
    machine.setattr(jax, "default_backend", lambda: "gpu")
    assert cpu_cores.idle_cores_note(batch_size=8) is None

from __future__ import annotations

import os

import pytest

from experiments import accelerators, devices


@pytest.fixture
def cpu_machine(monkeypatch):
    """Six cores, no accelerator, no flags; the environment comes back afterwards."""
    monkeypatch.setenv("XLA_FLAGS", "")
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(6)))
    monkeypatch.setattr(accelerators.glob, "glob", lambda _: [])
    return monkeypatch


def flags_for(batch_size):
    devices.use_all_cores(batch_size)
    return os.environ["XLA_FLAGS"]


@pytest.mark.parametrize(
    ("batch_size", "count"),
    [(12, 6), (8, 4), (5, 5), (2, 2), (14, 5), (7, 4), (64, 6)],
)
def test_as_few_devices_as_give_none_more_structures_than_one_for_each_core_would(
    cpu_machine, batch_size, count, capsys
):
    assert flags_for(batch_size) == f"--xla_force_host_platform_device_count={count}"
    assert f"count={count}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("batch_size", "edge_parts", "count"), [(1, 2, 2), (2, 2, 4), (8, 2, 6), (3, 6, 6), (1, 8, 8)]
)
def test_devices_that_share_edges_count_as_one(cpu_machine, batch_size, edge_parts, count):
    devices.use_all_cores(batch_size, edge_parts)
    assert os.environ["XLA_FLAGS"] == f"--xla_force_host_platform_device_count={count}"


def test_other_flags_stay(cpu_machine):
    cpu_machine.setenv("XLA_FLAGS", "--xla_dump_to=somewhere")
    assert flags_for(6).split() == [
        "--xla_dump_to=somewhere",
        "--xla_force_host_platform_device_count=6",
    ]


def test_what_the_user_asked_for_stays(cpu_machine, capsys):
    cpu_machine.setenv("XLA_FLAGS", "--xla_force_host_platform_device_count=3")
    assert flags_for(6) == "--xla_force_host_platform_device_count=3"
    assert not capsys.readouterr().out


def test_one_structure_in_a_step_keeps_one_device_and_that_is_said(cpu_machine, capsys):
    assert flags_for(1) == ""
    assert "6 cores, of which one does most of the work" in capsys.readouterr().out


def test_an_accelerator_needs_no_virtual_devices(cpu_machine):
    cpu_machine.setattr(accelerators.glob, "glob", lambda pattern: ["/dev/nvidia0"])
    assert flags_for(6) == ""
    cpu_machine.setenv("JAX_PLATFORMS", "cpu")  # it is there, but is not to be used
    assert flags_for(6).endswith("=6")
    cpu_machine.setattr(accelerators.glob, "glob", lambda pattern: [])
    cpu_machine.setenv("XLA_FLAGS", "")
    cpu_machine.setenv("JAX_PLATFORMS", "cuda,cpu")
    assert flags_for(6) == ""

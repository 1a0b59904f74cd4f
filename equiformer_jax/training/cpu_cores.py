"""What a machine's cores have to do with the devices that jax makes of them."""

from __future__ import annotations

import os

import jax

DEVICE_COUNT_FLAG = "--xla_force_host_platform_device_count"


def usable_cores() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def idle_cores_note(batch_size: int) -> str | None:
    """A line for those who train on one device of a CPU with several cores, as in a notebook.

    `python -m experiments.train` makes a device of each core by itself; once jax has started its
    backends it is too late for that.

    Args:
      batch_size: structures in a training step.
    """
    cores = min(usable_cores(), batch_size)
    if cores < 2 or jax.default_backend() != "cpu" or jax.device_count() > 1:
        return None
    return (
        f"one of {usable_cores()} cores does most of the work; to use more, start anew with the "
        f"environment variable XLA_FLAGS={DEVICE_COUNT_FLAG}={cores}"
    )

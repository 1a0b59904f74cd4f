"""Makes a machine without accelerator use all of its cores."""

from __future__ import annotations

import glob
import os
from collections.abc import Callable

_FLAG = "--xla_force_host_platform_device_count"
# Where the drivers of GPUs (NVIDIA, AMD) and of TPUs show their devices.
_ACCELERATORS = ("/dev/nvidia[0-9]*", "/dev/kfd", "/dev/accel*", "/dev/vfio/[0-9]*")


def use_all_cores(batch_size: int, say: Callable[[str], None] = print) -> None:
    """On a machine with CPUs alone, makes one virtual device for each core.

    XLA runs much of a training step on one core of a device; with the batch split over as many
    virtual devices as there are cores, all of them work. The number of devices divides the batch
    size. Nothing happens where there is an accelerator, or where `XLA_FLAGS` already says how many
    devices to make.

    To be called before jax starts its backends, that is before the first array or `jax.devices()`.

    Args:
      batch_size: structures in a training step.
      say: prints a line.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    if _FLAG in flags or not _cpu_only():
        return
    cores = _usable_cores()
    # A batch size that makes no sense is refused later, by its name.
    fitting = (n for n in range(1, min(cores, batch_size) + 1) if batch_size % n == 0)
    count = max(fitting, default=1)
    if count == 1:
        return
    os.environ["XLA_FLAGS"] = f"{flags} {_FLAG}={count}".strip()
    say(f"no accelerator found: {cores} cores, set XLA_FLAGS={os.environ['XLA_FLAGS']!r}")


def _usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _cpu_only() -> bool:
    asked_for = os.environ.get("JAX_PLATFORMS", "")
    if asked_for:
        return asked_for == "cpu"
    return not any(glob.glob(pattern) for pattern in _ACCELERATORS)

"""What can be said of a machine's accelerators before jax looks for them."""

from __future__ import annotations

import glob
import os

# Where the drivers of GPUs (NVIDIA, AMD) and of TPUs show their devices.
_ACCELERATORS = ("/dev/nvidia[0-9]*", "/dev/kfd", "/dev/accel*", "/dev/vfio/[0-9]*")


def cpu_only() -> bool:
    """Whether jax will compute on CPUs, as asked for or for want of anything else."""
    asked_for = os.environ.get("JAX_PLATFORMS", "")
    if asked_for:
        return asked_for == "cpu"
    return not any(glob.glob(pattern) for pattern in _ACCELERATORS)

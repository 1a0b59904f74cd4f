"""Makes a machine without accelerator use all of its cores."""

from __future__ import annotations

import math
import os
from collections.abc import Callable

from equiformer_jax.training.cpu_cores import DEVICE_COUNT_FLAG, usable_cores
from experiments.accelerators import cpu_only


def use_all_cores(batch_size: int, edge_parts: int = 1, say: Callable[[str], None] = print) -> None:
    """On a machine with CPUs alone, makes one virtual device for each core.

    XLA runs much of a training step on one core of a device; with the batch split over as many
    virtual devices as there are cores, all of them work. Of several numbers of devices that give
    none more structures than another number would, the smallest is taken. Nothing happens where
    there is an accelerator, or where `XLA_FLAGS` already says how many devices to make.

    To be called before jax starts its backends, that is before the first array or `jax.devices()`.

    Args:
      batch_size: structures in a training step.
      edge_parts: devices that share the edges of each part of a batch.
      say: prints a line.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    if DEVICE_COUNT_FLAG in flags or not cpu_only():
        return
    cores = usable_cores()
    # Numbers that make no sense are refused later, by their names.
    batch_size, edge_parts = max(batch_size, 1), max(edge_parts, 1)
    largest_part = math.ceil(batch_size / max(cores // edge_parts, 1))
    count = math.ceil(batch_size / largest_part) * edge_parts
    if count == 1:
        if cores > 1:
            say(
                f"no accelerator found: {cores} cores, of which one does most of the work, as "
                "there is one structure in a step (mesh.edge_parts can divide its edges)"
            )
        return
    os.environ["XLA_FLAGS"] = f"{flags} {DEVICE_COUNT_FLAG}={count}".strip()
    say(f"no accelerator found: {cores} cores, set XLA_FLAGS={os.environ['XLA_FLAGS']!r}")

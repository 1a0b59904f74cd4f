"""Published figures of TPU chips, and the topologies that libtpu compiles for without one."""

from __future__ import annotations

import dataclasses
import math
import os
import re

import jax

GB, GIB = 10**9, 2**30


@dataclasses.dataclass(frozen=True)
class Chip:
    """What is published of one chip, all cores together.

    https://cloud.google.com/tpu/docs/v5e, .../v5p and .../v6e. A product of float32 numbers has no
    peak of its own: the matrix unit multiplies bfloat16 numbers, and takes three passes over a
    float32 product of the precision `high` and six with `highest`.

    Attributes:
      name: as in the name of a topology.
      usable_bytes: memory that libtpu gives to a program; the rest of the published capacity is
        reserved.
      published_gigabytes: capacity of the memory as published.
      flops_per_second: peak of bfloat16 products.
      memory_bytes_per_second: peak bandwidth of the memory.
      sent_bytes_per_second: what it can send to its neighbors over all links together, half of
        the published bandwidth of both directions.
    """

    name: str
    usable_bytes: float
    published_gigabytes: int
    flops_per_second: float
    memory_bytes_per_second: float
    sent_bytes_per_second: float


CHIPS = {
    chip.name: chip
    for chip in (
        Chip("v5e", 15.75 * GIB, 16, 197e12, 819 * GB, 200 * GB),
        Chip("v5p", 95.74 * GIB, 95, 459e12, 2765 * GB, 600 * GB),
        Chip("v6e", 31.25 * GIB, 32, 918e12, 1638 * GB, 400 * GB),
    )
}
_NAME = re.compile(r"(\w+):(\d+(?:x\d+)*)")
# Without these libtpu looks for the machine that it would be on, or for its lock file.
_ENVIRONMENT = {
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "TPU_WORKER_HOSTNAMES": "localhost",
}


@dataclasses.dataclass(frozen=True)
class Topology:
    """Chips wired together.

    Attributes:
      name: such as `v5e:2x4`.
      chip: what each of them is.
      devices: for `jax.make_mesh`; nothing can be run on them.
    """

    name: str
    chip: Chip
    devices: tuple[jax.Device, ...]


class TopologyError(ValueError):
    """There is no such topology, or no libtpu to compile for it."""


def split_name(name: str) -> tuple[Chip, int]:
    """The chip of a topology and how many there are, from its name alone.

    Raises:
      TopologyError: the name has another form, or nothing is known of the chip.
    """
    match = _NAME.fullmatch(name)
    if match is None or match[1] not in CHIPS:
        raise TopologyError(
            f"topology={name!r}; expected one of {sorted(CHIPS)}, a colon and the shape, as in "
            "v5e:2x4, v5p:2x2x1 or v6e:16x16"
        )
    return CHIPS[match[1]], math.prod(int(side) for side in match[2].split("x"))


def find_topology(name: str) -> Topology:
    """Chips to compile for, none of which has to be here.

    Args:
      name: chip and shape, such as `v5e:2x4`, `v5p:2x2x1`, `v6e:16x16`. A shape is made of hosts
        of four chips, two by two.

    Raises:
      TopologyError: the name is wrong, libtpu does not know the shape, or is not installed.
    """
    from jax.experimental import topologies

    chip, _ = split_name(name)
    for variable, value in _ENVIRONMENT.items():
        os.environ.setdefault(variable, value)
    try:
        found = topologies.get_topology_desc(topology_name=name, platform="tpu")
    except (RuntimeError, ImportError) as error:
        text = str(error).splitlines()[0]
        hint = "" if has_libtpu() else "; it needs libtpu: pip install 'equiformer_jax[tpu]'"
        raise TopologyError(f"topology={name!r}: {text}{hint}") from error
    return Topology(name, chip, tuple(found.devices))


def has_libtpu() -> bool:
    """Whether the compiler for TPUs is installed."""
    import importlib.util

    return importlib.util.find_spec("libtpu") is not None

"""Where batches and parameters lie: one mesh over all devices, its axis named `data`."""

from __future__ import annotations

from typing import TypeVar

import jax
import jraph
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

DATA_AXIS = "data"
SPLIT = PartitionSpec(DATA_AXIS)
EVERYWHERE = PartitionSpec()

Tree = TypeVar("Tree")


def make_data_mesh(num_devices: int | None = None) -> Mesh:
    """A one-dimensional mesh over the devices.

    Args:
      num_devices: use the first so many devices; all if `None`.

    Raises:
      ValueError: there are fewer devices.
    """
    devices = jax.devices()
    if num_devices is not None and not 1 <= num_devices <= len(devices):
        raise ValueError(f"{num_devices} devices asked for, {len(devices)} are here")
    return jax.make_mesh(
        (num_devices or len(devices),),
        (DATA_AXIS,),
        axis_types=(AxisType.Auto,),
        devices=devices[:num_devices],
    )


def split_sharding(mesh: Mesh) -> NamedSharding:
    """Sharding of arrays whose leading axis has one slice for each device."""
    return NamedSharding(mesh, SPLIT)


def replicated_sharding(mesh: Mesh) -> NamedSharding:
    """Sharding of arrays that every device holds in full."""
    return NamedSharding(mesh, EVERYWHERE)


def place_batch(graph: jraph.GraphsTuple, mesh: Mesh) -> jraph.GraphsTuple:
    """Puts a host batch with a leading device axis on the devices, one slice on each."""
    sharding = split_sharding(mesh)
    return jax.tree.map(lambda leaf: jax.make_array_from_process_local_data(sharding, leaf), graph)


def replicate(tree: Tree, mesh: Mesh) -> Tree:
    """Puts a copy of every leaf on every device."""
    return jax.device_put(tree, replicated_sharding(mesh))

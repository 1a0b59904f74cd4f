"""Where batches, parameters and the state of a training lie: a mesh over the devices of all hosts.

Its axis `data` divides a batch, its axis `edge` the edges of each part of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import jax
import jraph
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

DATA_AXIS = "data"
EDGE_AXIS = "edge"
SPLIT = PartitionSpec(DATA_AXIS)
EVERYWHERE = PartitionSpec()

# Smaller arrays are not worth a collective of their own. In the published models they are half of
# all arrays and less than 0.5 % of all numbers.
_SMALLEST_DIVIDED = 1024

Tree = TypeVar("Tree")


def make_data_mesh(
    num_devices: int | None = None,
    edge_parts: int = 1,
    devices: Sequence[jax.Device] | None = None,
) -> Mesh:
    """A mesh over the devices of all hosts, with the axes `data` and `edge`.

    Args:
      num_devices: use the first so many devices; all if `None`.
      edge_parts: devices that share the edges of one part of a batch.
      devices: to choose from; those that are here if `None`.

    Raises:
      ValueError: there are fewer devices, or `edge_parts` does not divide them.
    """
    devices = jax.devices() if devices is None else devices
    if num_devices is not None and not 1 <= num_devices <= len(devices):
        raise ValueError(f"{num_devices} devices asked for, {len(devices)} are here")
    count = num_devices or len(devices)
    if edge_parts < 1 or count % edge_parts:
        raise ValueError(f"edge_parts={edge_parts}; expected a divisor of the {count} devices")
    # The wires of a pod have axes of their own, which `jax.make_mesh` divides on some chips only.
    places = mesh_utils.create_device_mesh(
        (count // edge_parts, edge_parts), devices[:count], allow_split_physical_axes=True
    )
    return Mesh(places, (DATA_AXIS, EDGE_AXIS), axis_types=(AxisType.Auto, AxisType.Auto))


def split_sharding(mesh: Mesh) -> NamedSharding:
    """Sharding of arrays whose leading axis has one slice for each place on the data axis."""
    return NamedSharding(mesh, SPLIT)


def replicated_sharding(mesh: Mesh) -> NamedSharding:
    """Sharding of arrays that every device holds in full."""
    return NamedSharding(mesh, EVERYWHERE)


def num_data_parts(mesh: Mesh) -> int:
    """Into how many parts a batch is divided."""
    return mesh.shape[DATA_AXIS]


def own_data_parts(mesh: Mesh) -> list[int]:
    """The parts of a batch that devices of this process hold, ascending.

    They need not be next to each other: a mesh follows the wires of a pod, which run across hosts.
    """
    axis = mesh.axis_names.index(DATA_AXIS)
    rows = np.moveaxis(mesh.devices, axis, 0).reshape(num_data_parts(mesh), -1)
    own = jax.process_index()
    return [part for part, row in enumerate(rows) if any(d.process_index == own for d in row)]


def place_batch(graph: jraph.GraphsTuple, mesh: Mesh) -> jraph.GraphsTuple:
    """Puts a host batch on the devices.

    Args:
      graph: arrays whose leading axis has a slice for each of `own_data_parts(mesh)`.
      mesh: the devices.

    Returns:
      Arrays whose leading axis has a slice for each place on the data axis, of all hosts.
    """
    sharding = split_sharding(mesh)
    if sharding.is_fully_addressable:
        return jax.device_put(graph, sharding)
    rows = {part: row for row, part in enumerate(own_data_parts(mesh))}

    def place(leaf: np.ndarray) -> jax.Array:
        def part(index: Any) -> np.ndarray:
            row = rows[index[0].start or 0]
            return leaf[row : row + 1]

        return jax.make_array_from_callback((num_data_parts(mesh), *leaf.shape[1:]), sharding, part)

    return jax.tree.map(place, graph)


def fetch_own_parts(array: jax.Array) -> np.ndarray:
    """What `place_batch` would have made such an array of: the slices of this process's devices."""
    shards = {shard.index[0].start or 0: shard for shard in array.addressable_shards}
    return np.concatenate([np.asarray(shards[start].data) for start in sorted(shards)])


def placed(tree: Tree, shardings: Tree) -> Tree:
    """Shapes and types of a tree with a place for each array."""
    return jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        tree,
        shardings,
    )


def replicate(tree: Tree, mesh: Mesh) -> Tree:
    """Puts a copy of every leaf on every device."""
    return jax.device_put(tree, replicated_sharding(mesh))


def divided_axis(shape: tuple[int, ...], mesh: Mesh) -> int | None:
    """The axis along which an array is divided over the data axis, so that no device holds it all.

    Args:
      shape: of an array like a parameter.
      mesh: the devices.

    Returns:
      The longest axis that can be divided evenly, the first of several; `None` for small arrays
      and where there is no such axis.
    """
    parts = num_data_parts(mesh)
    axes = [axis for axis, length in enumerate(shape) if length % parts == 0]
    if parts == 1 or not axes or np.prod(shape) < _SMALLEST_DIVIDED:
        return None
    return max(axes, key=lambda axis: shape[axis])


def divided_spec(shape: tuple[int, ...], mesh: Mesh) -> PartitionSpec:
    """How an array of this shape lies where it is divided (`divided_axis`)."""
    axis = divided_axis(shape, mesh)
    return EVERYWHERE if axis is None else PartitionSpec(*[None] * axis, DATA_AXIS)


def divided_sharding(tree: Tree, mesh: Mesh, leading_axes: int = 0) -> Tree:
    """The sharding of each array of a tree that is divided, in its place.

    Args:
      tree: arrays, or anything with their shapes.
      mesh: the devices.
      leading_axes: so many first axes belong to no single array, such as one of several models.
    """

    def sharding(leaf: jax.Array) -> NamedSharding:
        spec = divided_spec(leaf.shape[leading_axes:], mesh)
        return NamedSharding(mesh, PartitionSpec(*[None] * leading_axes, *spec) if spec else spec)

    return jax.tree.map(sharding, tree)

from __future__ import annotations

from types import SimpleNamespace

import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from equiformer_jax.training import sharding
from equiformer_jax.training.sharding import (
    divided_axis,
    divided_sharding,
    divided_spec,
    fetch_own_parts,
    make_data_mesh,
    own_data_parts,
    place_batch,
)


def mesh_of_hosts(hosts):
    """The shape of a mesh and the host of each of its devices, `[data, edge]`."""
    hosts = np.array(hosts)
    devices = np.vectorize(lambda host: SimpleNamespace(process_index=host))(hosts)
    shape = dict(zip(("data", "edge"), hosts.shape, strict=True))
    return SimpleNamespace(axis_names=("data", "edge"), devices=devices, shape=shape)


def test_a_mesh_has_an_axis_for_data_and_one_for_edges():
    mesh = make_data_mesh()
    assert mesh.axis_names == ("data", "edge")
    assert mesh.devices.shape == (jax.device_count(), 1)
    with pytest.raises(ValueError, match="edge_parts=3; expected a divisor of the 1 devices"):
        make_data_mesh(1, edge_parts=3)
    with pytest.raises(ValueError, match="edge_parts=0"):
        make_data_mesh(1, edge_parts=0)


class Chip(SimpleNamespace):
    """What a mesh has to know of a chip."""

    __hash__ = object.__hash__


def chips(kind, *shape):
    """Stand-ins for the chips of a pod."""
    places = list(np.ndindex(shape))
    return [
        Chip(
            platform="tpu", device_kind=kind, coords=place + (0,) * (3 - len(place)),
            core_on_chip=0, id=number, process_index=number // 4, slice_index=0,
        )
        for number, place in enumerate(places)
    ]  # fmt: skip


@pytest.mark.parametrize("parts", [1, 2, 4, 8])
@pytest.mark.parametrize(
    ("kind", "shape"),
    [("TPU v5 lite", (2, 4)), ("TPU v6 lite", (8, 8)), ("TPU v5", (4, 4, 4)), ("TPU v4", (4, 4))],
)
def test_edges_are_divided_over_chips_whatever_the_shape_of_the_pod(kind, shape, parts):
    devices = chips(kind, *shape)
    mesh = make_data_mesh(edge_parts=parts, devices=devices)
    assert mesh.devices.shape == (len(devices) // parts, parts)
    assert {device.id for device in mesh.devices.flat} == set(range(len(devices)))
    for group in mesh.devices:  # those that share edges are neighbors
        spans = np.ptp([device.coords for device in group], axis=0)
        assert np.prod(spans + 1) == parts


@pytest.mark.parametrize(
    ("hosts", "own"),
    [
        ([[0], [0], [1], [1]], [[0, 1], [2, 3]]),
        ([[0], [1], [0], [1]], [[0, 2], [1, 3]]),  # along the wires of a pod
        ([[0, 0], [1, 1]], [[0], [1]]),
        ([[0, 1], [0, 1]], [[0, 1], [0, 1]]),  # two hosts share the edges of each part
    ],
)
def test_each_host_knows_its_parts_of_a_batch(hosts, own, monkeypatch):
    for host, expected in enumerate(own):
        monkeypatch.setattr(sharding.jax, "process_index", lambda host=host: host)
        assert own_data_parts(mesh_of_hosts(hosts)) == expected


def test_what_is_placed_can_be_fetched():
    batch = np.arange(6.0).reshape(1, 2, 3)
    np.testing.assert_array_equal(fetch_own_parts(place_batch(batch, make_data_mesh(1))), batch)


@pytest.mark.parametrize(
    ("shape", "axis"),
    [
        ((5, 128, 672), 2),
        ((512, 512), 0),
        ((4100, 16), 1),  # the longer axis cannot be divided evenly
        ((2047, 3), None),
        ((64,), None),  # too small
        ((), None),
    ],
)
def test_the_longest_axis_that_can_be_divided_is(shape, axis):
    mesh = mesh_of_hosts([[0]] * 8)
    assert divided_axis(shape, mesh) == axis
    expected = PartitionSpec() if axis is None else PartitionSpec(*[None] * axis, "data")
    assert divided_spec(shape, mesh) == expected


def test_one_device_divides_nothing_and_the_axis_of_models_is_never_divided():
    mesh = make_data_mesh(1)
    assert divided_axis((1024,), mesh) is None
    found = divided_sharding({"kernel": np.zeros((2, 1024))}, mesh, leading_axes=1)
    assert found["kernel"].spec == PartitionSpec()

from __future__ import annotations

import pytest

from equiformer_jax.training.edge_parts import edge_axis_of, with_divisible_edges
from equiformer_jax.training.mesh_settings import MeshSettings
from equiformer_jax.training.sharding import make_data_mesh
from tests.training.whole_batch import whole_source
from tests.virtual_devices import output_on_devices


def test_edges_may_be_divided_over_any_devices():
    """Steps, evaluation, micro-batches, a divided optimizer: the numbers of one device."""
    output = output_on_devices("tests.training.divided_edges", 8)
    assert output.count("agrees") == 4


def test_one_place_on_the_edge_axis_changes_nothing():
    mesh, graph = make_data_mesh(1), whole_source(1, 0)
    assert edge_axis_of(mesh) is None
    assert with_divisible_edges(graph, mesh) is graph


def test_edge_parts_are_at_least_one():
    with pytest.raises(ValueError, match=r"mesh\.edge_parts=0; expected at least 1"):
        MeshSettings(edge_parts=0)

from __future__ import annotations

from tests.virtual_devices import output_on_devices


def test_edges_divided_over_devices_give_what_all_edges_give():
    """On four devices: values, forces, stress, gradients of a loss on them, dropout included."""
    output = output_on_devices("tests.models.divided_edges", 4)
    assert "derivatives agree" in output
    assert "edges agree" in output
    assert "nothing is sent twice" in output

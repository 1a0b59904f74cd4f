from __future__ import annotations

import pytest

from experiments.tpu import chips
from experiments.tpu.chips import CHIPS, TopologyError, find_topology, has_libtpu, split_name

needs_libtpu = pytest.mark.skipif(not has_libtpu(), reason="libtpu is not installed")


@pytest.mark.parametrize(
    ("name", "chip", "count"),
    [("v5e:2x4", "v5e", 8), ("v5p:2x2x1", "v5p", 4), ("v6e:16x16", "v6e", 256)],
)
def test_a_name_tells_chip_and_number(name, chip, count):
    assert split_name(name) == (CHIPS[chip], count)


@pytest.mark.parametrize("name", ["v5e", "2x4", "v9z:2x4", "v5e:2 x 4", "v5e:", ""])
def test_a_name_of_another_form_is_told(name):
    with pytest.raises(TopologyError, match="expected one of .*'v5e'.* as in v5e:2x4"):
        find_topology(name)


def test_without_libtpu_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setattr(chips, "has_libtpu", lambda: False)
    with pytest.raises(TopologyError, match=r"v5e:3x5.*pip install 'equiformer_jax\[tpu\]'"):
        find_topology("v5e:3x5")


@needs_libtpu
def test_chips_are_found():
    topology = find_topology("v5e:2x4")
    assert len(topology.devices) == 8
    assert topology.devices[0].platform == "tpu"


@needs_libtpu
def test_a_shape_that_there_is_not_is_told():
    with pytest.raises(TopologyError, match=r"v5e:3x5.*not divisible"):
        find_topology("v5e:3x5")

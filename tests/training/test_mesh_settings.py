from __future__ import annotations

import pytest

from equiformer_jax.training.configuration import to_plain
from equiformer_jax.training.early_checks import check_configuration
from equiformer_jax.training.mesh_settings import MeshSettings
from equiformer_jax.training.run_record import FREE_FIELDS
from experiments.configs import parts
from tests.training.tiny_run import tiny_config


def test_the_part_of_the_configurations_has_the_defaults():
    assert to_plain(parts.mesh()) == vars(MeshSettings())
    assert MeshSettings.from_settings(tiny_config().mesh) == MeshSettings()


def test_a_run_from_before_there_was_such_a_part_has_the_defaults():
    config = tiny_config()
    with config.unlocked():
        del config["mesh"]
    check_configuration(config)
    assert MeshSettings.from_settings(config.get("mesh")) == MeshSettings()


def test_a_run_may_go_on_with_other_ones():
    assert {f"mesh.{name}" for name in vars(MeshSettings())} <= FREE_FIELDS


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"edge_parts": 0}, r"config\.mesh\.edge_parts=0; expected at least 1"),
        ({"shard_optimiser": True}, r"config\.mesh: unknown fields \['shard_optimiser'\]; known"),
    ],
)
def test_what_does_not_fit_is_named(settings, message):
    with pytest.raises(ValueError, match=message):
        MeshSettings.from_settings(settings)

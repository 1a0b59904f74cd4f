"""A tiny model in place of that of any configuration."""

from __future__ import annotations

import jax
from ml_collections import config_dict

from experiments.tpu.chips import CHIPS, Topology
from experiments.tpu.sizes import StructureSize

SIZE = StructureSize(5, 20, "given")
_MODEL = {
    "num_layers": 1,
    "num_heads": 2,
    "irreps_node_embedding": "4x0e+2x1e",
    "irreps_sh": "1x0e+1x1e",
    "irreps_head": "2x0e+1x1e",
    "irreps_mlp_mid": "4x0e+2x1e",
    "irreps_feature": "4x0e+2x1e",
}


def make_tiny(config: config_dict.ConfigDict) -> config_dict.ConfigDict:
    """A copy with one small layer and a batch of eight."""
    config = config.copy_and_resolve_references()
    config.model.update(_MODEL)
    if config.model.irreps_equivariant_inputs is not None:
        config.model.irreps_equivariant_inputs = "1x0e+1x1e"
    if config.model.irreps_pre_attn is not None:
        config.model.irreps_pre_attn = "4x0e+2x1e"
    config.training.batch_size = 8
    return config


def cpu_topology(num_devices: int = 1) -> Topology:
    """CPU devices in the place of chips."""
    return Topology("v5e:1x1", CHIPS["v5e"], tuple(jax.devices()[:num_devices]))

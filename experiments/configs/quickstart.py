"""Aspirin in a few minutes on two CPU cores, from the data set that the package carries."""

from __future__ import annotations

from ml_collections import config_dict

from equiformer_jax.models.presets import get_preset
from equiformer_jax.training.configuration import model_settings


def get_config() -> config_dict.ConfigDict:
    """A small `md17_l2` on the embedded data, GFN2-xTB energies and forces."""
    config = config_dict.ConfigDict()
    config.seed = 1

    config.model = model_settings(
        get_preset(
            "md17_l2",
            num_layers=3,
            irreps_node_embedding="48x0e+24x1e+12x2e",
            irreps_head="12x0e+6x1e+3x2e",
            irreps_mlp_mid="144x0e+72x1e+36x2e",
            irreps_feature="128x0e",
        )
    )

    config.data = config_dict.ConfigDict()
    config.data.name = "embedded_aspirin"
    config.data.limits = {
        "train": config_dict.placeholder(int),
        "validation": config_dict.placeholder(int),
        "test": config_dict.placeholder(int),
    }

    config.training = config_dict.ConfigDict()
    config.training.num_epochs = 30
    config.training.batch_size = 8
    config.training.evaluation_batch_size = 24
    config.training.learning_rate = 2e-3
    config.training.warmup_epochs = 2
    config.training.warmup_lr = 1e-6
    config.training.min_lr = 1e-6
    config.training.weight_decay = 1e-6
    config.training.energy_weight = 1.0
    config.training.force_weight = 80.0
    config.training.force_error = "l2"
    config.training.log_every_steps = 0
    config.training.keep_checkpoints = 2
    return config

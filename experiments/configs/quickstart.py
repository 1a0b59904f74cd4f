r"""Aspirin in a few minutes on two CPU cores, from the data set that the package carries.

    make train

or, with any field overridden,

    python -m experiments.train --config=experiments/configs/quickstart.py \
        --workdir=runs/quickstart --config.training.num_epochs=10

A small `md17_l2` (3 of 6 layers, a third of the channels) learns energies and forces of GFN2-xTB
from 875 geometries. Model and epochs are few: its errors say nothing about the full model.
"""

from __future__ import annotations

from ml_collections import config_dict

from equiformer_jax.models.presets import get_preset
from equiformer_jax.training.configuration import model_settings


def get_config() -> config_dict.ConfigDict:
    """The configuration of `make train`."""
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
    config.data = _data()
    config.training = _training()
    return config


def _data() -> config_dict.ConfigDict:
    data = config_dict.ConfigDict()
    data.name = "embedded_aspirin"
    # How many structures of each split to take; all where nothing is given.
    data.limits = {split: config_dict.placeholder(int) for split in ("train", "validation", "test")}
    return data


def _training() -> config_dict.ConfigDict:
    training = config_dict.ConfigDict()
    training.num_epochs = 4
    training.batch_size = 4  # structures in a step, over all devices
    training.evaluation_batch_size = 24
    # So few epochs have none to spare for a warm-up.
    training.learning_rate = 2e-3
    training.warmup_epochs = 0
    training.warmup_lr = 1e-6
    training.min_lr = 1e-6
    training.weight_decay = 1e-6
    # Weights of the terms of the loss, and the norm of the force error (`l2` or `l1`).
    training.energy_weight = 1.0
    training.force_weight = 80.0
    training.force_error = "l2"
    training.log_every_steps = 0  # lines inside an epoch; 0 for none
    training.keep_checkpoints = 2  # newest ones, beside the best
    return training

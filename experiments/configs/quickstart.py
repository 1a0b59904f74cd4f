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

from experiments.configs import parts


def get_config() -> config_dict.ConfigDict:
    """The configuration of `make train`."""
    return parts.experiment(
        seed=1,
        model=parts.model(
            "md17_l2",
            num_layers=3,
            irreps_node_embedding="48x0e+24x1e+12x2e",
            irreps_head="12x0e+6x1e+3x2e",
            irreps_mlp_mid="144x0e+72x1e+36x2e",
            irreps_feature="128x0e",
        ),
        data=parts.data("embedded_aspirin"),
        objective=parts.energies_and_forces(energy_weight=1.0, force_weight=80.0),
        optimizer=parts.adamw(learning_rate=2e-3, weight_decay=1e-6),
        # So few epochs have none to spare for a warm-up.
        schedule=parts.cosine_epochs(warmup_epochs=0),
        training=parts.training(num_epochs=4, batch_size=4, evaluation_batch_size=24),
    )

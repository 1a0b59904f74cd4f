"""A training that takes seconds: a network of a few channels on made-up molecules.

As a program, `python -m tests.training.tiny_run WORKDIR EPOCHS` trains it.
"""

from __future__ import annotations

import sys

import numpy as np

import equiformer_jax as eqf
from experiments.configs import parts

EPOCHS = 3


def tiny_molecules(count, seed):
    generator = np.random.default_rng(seed)
    for _ in range(count):
        atoms = int(generator.integers(3, 6))
        positions = np.arange(atoms)[:, None] * np.array([1.1, 0, 0])
        displacements = 0.1 * generator.normal(size=(atoms, 3))
        yield eqf.Structure(
            positions + displacements,
            generator.choice([1, 6, 8], atoms),
            energy=-400.0 + float((displacements**2).sum()),
            forces=-2 * displacements,
        )


def tiny_splits():
    """Two steps an epoch with batches of four."""
    counts = {"train": 9, "validation": 3, "test": 5}
    return {
        split: list(tiny_molecules(count, seed))
        for seed, (split, count) in enumerate(counts.items())
    }


TINY_MODEL = {
    "num_layers": 1,
    "num_heads": 2,
    "irreps_node_embedding": "4x0e+2x1e",
    "irreps_sh": "1x0e+1x1e",
    "irreps_head": "2x0e+1x1e",
    "irreps_mlp_mid": "4x0e+2x1e",
    "irreps_feature": "4x0e",
    "fc_neurons": (4,),
    "number_of_basis": 4,
    "alpha_drop": 0.1,
}


def tiny_config(**changes):
    """Changes have dotted names, dots written as two underscores."""
    config = parts.experiment(
        seed=3,
        model=parts.model("md17_l2", **TINY_MODEL),
        data=parts.data("tiny"),
        objective=parts.energies_and_forces(energy_weight=1.0, force_weight=10.0),
        optimizer=parts.adamw(learning_rate=1e-2, weight_decay=1e-3),
        schedule=parts.cosine_epochs(warmup_epochs=1),
        training=parts.training(num_epochs=EPOCHS, batch_size=4, evaluation_batch_size=4),
    )
    config.schedule.warmup_lr = 1e-3
    config.update_from_flattened_dict({k.replace("__", "."): v for k, v in changes.items()})
    return config


def main():
    import jax

    from equiformer_jax.data import catalog
    from equiformer_jax.training import trainer

    jax.config.update("jax_enable_x64", True)
    splits = tiny_splits()
    catalog.DATASETS = {**catalog.DATASETS, "tiny": lambda: splits}
    trainer.train(tiny_config(training__num_epochs=int(sys.argv[2])), sys.argv[1])


if __name__ == "__main__":
    main()

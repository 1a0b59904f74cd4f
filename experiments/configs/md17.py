r"""MD17: energies and forces of small molecules, eight recipes of the paper (SPEC §12.3).

    python -m experiments.train --config=experiments/configs/md17.py:aspirin --workdir=DIR
    python -m experiments.train --config=experiments/configs/md17.py:toluene,lmax=3,dens ...

Options after the colon: the molecule; `lmax` (2 or 3); `dens`, with the denoising task (SPEC §9);
`variant`, which is `nonlinear` as published or, with lmax 2, `linear` or `dot_product` for the
ablation. 950 frames train, 50 validate, the rest test. Data that are not there are fetched.
With `--config.data.options.order=blocks` the splits are blocks of time.
"""

from __future__ import annotations

from ml_collections import config_dict

from equiformer_jax.data.units import EV_PER_KCAL_MOL
from experiments.configs import parts

# Learning rate, weight of the energy and weight of the forces, of each molecule:
# (lmax 2), (lmax 3), (lmax 2 with DeNS), (lmax 3 with DeNS).
RECIPES = {
    "aspirin": ((5e-4, 1, 80), (2e-4, 1, 100), (5e-4, 1, 80), (2e-4, 1, 80)),
    "benzene": ((1e-4, 1, 80), (1e-4, 1, 80), (1e-4, 1, 80), (1e-4, 1, 80)),
    "ethanol": ((5e-4, 1, 80), (2e-4, 1, 80), (5e-4, 1, 80), (2e-4, 1, 80)),
    "malonaldehyde": ((5e-4, 1, 100), (2e-4, 1, 100), (5e-4, 1, 100), (2e-4, 1, 100)),
    "naphthalene": ((5e-4, 1, 20), (2e-4, 1, 100), (5e-4, 2, 20), (2e-4, 2, 20)),
    "salicylic_acid": ((5e-4, 1, 80), (2e-4, 1, 100), (5e-4, 1, 80), (2e-4, 1, 80)),
    "toluene": ((5e-4, 1, 80), (2e-4, 1, 100), (5e-4, 1, 80), (2e-4, 1, 80)),
    "uracil": ((5e-4, 1, 20), (2e-4, 1, 100), (5e-4, 1, 20), (2e-4, 1, 20)),
}
# Epochs, batch size and evaluation batch size.
LENGTHS = {2: (1500, 8, 24), 3: (2000, 5, 16)}


def get_config(argument: str | None = None) -> config_dict.ConfigDict:
    """The recipe of a molecule; the module's text lists the options."""
    options = parts.parse_argument(
        argument, "molecule", molecule="aspirin", lmax=2, dens=False, variant="nonlinear"
    )
    lmax, dens = options["lmax"], options["dens"]
    recipes = parts.choose("molecule", options["molecule"], RECIPES)
    num_epochs, batch_size, evaluation_batch_size = parts.choose("lmax", lmax, LENGTHS)
    if dens and options["molecule"] == "benzene":
        num_epochs, batch_size, _ = LENGTHS[2]
    learning_rate, energy_weight, force_weight = recipes[2 * dens + (lmax - 2)]
    config = parts.experiment(
        seed=1,
        model=parts.model(
            _preset(lmax, dens, options["variant"]), edge_block_size=parts.EDGES_OF_MOLECULES
        ),
        data=parts.data(
            "md17",
            molecule=options["molecule"],
            order="published",
            file=None,
            directory=None,
            download=True,
        ),
        objective=parts.energies_and_forces(energy_weight, force_weight),
        optimizer=parts.adamw(learning_rate, weight_decay=1e-6),
        schedule=parts.cosine_epochs(warmup_epochs=10),
        training=parts.training(
            num_epochs,
            batch_size,
            evaluation_batch_size,
            test_every_epochs=20 if dens else 10,
            test_batches=500 if dens else 1000,
        ),
    )
    return _with_denoising(config, options["molecule"]) if dens else config


def _preset(lmax: int, dens: bool, variant: str) -> str:
    if variant != "nonlinear":
        if lmax != 2 or dens or variant not in ("linear", "dot_product"):
            raise ValueError(
                f"variant={variant!r}; expected nonlinear or, with lmax=2 and without dens, "
                "linear or dot_product"
            )
        return f"md17_l2_{variant}"
    return f"md17_l{lmax}_dens" if dens else f"md17_l{lmax}"


def _with_denoising(config: config_dict.ConfigDict, molecule: str) -> config_dict.ConfigDict:
    """Adds the corruption of structures and the denoising term (SPEC §9, §12.3)."""
    weaker = molecule == "toluene"
    config.augmentation = config_dict.ConfigDict(
        {
            "kind": "denoising",
            "probability": 0.125 if weaker else 0.25,
            "atom_share": 0.25,
            "std": 0.025 if weaker else 0.05,
            # Published models take forces in the unit of the data set, kcal/mol/Å.
            "force_unit": EV_PER_KCAL_MOL,
        }
    )
    config.objective = config_dict.ConfigDict(
        {
            "kind": "denoising",
            "energy_weight": config.objective.energy_weight,
            "force_weight": config.objective.force_weight,
            "denoising_weight": 5.0,
        }
    )
    return config

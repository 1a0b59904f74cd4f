r"""Revised MD17: ten molecules, the official split, the models and rates of MD17.

    python -m experiments.train --config=experiments/configs/rmd17.py:aspirin,split=1 --workdir=DIR

Options after the colon: the molecule; `split`, 1 to 5 (950 of its 1,000 training frames train, 50
validate, its 1,000 test frames test); `lmax`; `variant`. The paper trains on the original MD17; its
recipes are used here unchanged, those of aspirin where it has none.
"""

from __future__ import annotations

from ml_collections import config_dict

from equiformer_jax.data.readers.rmd17 import RMD17_MOLECULES
from experiments.configs import md17, parts


def get_config(argument: str | None = None) -> config_dict.ConfigDict:
    """The recipe of a molecule; the module's text lists the options."""
    options = parts.parse_argument(
        argument, "molecule", molecule="aspirin", split=1, lmax=2, variant="nonlinear"
    )
    molecule = options["molecule"]
    if molecule not in RMD17_MOLECULES:
        raise ValueError(f"molecule={molecule!r}; known are {list(RMD17_MOLECULES)}")
    like = molecule if molecule in md17.RECIPES else "aspirin"
    config = md17.get_config(f"{like},lmax={options['lmax']},variant={options['variant']}")
    config.data = parts.data(
        "rmd17", molecule=molecule, split=options["split"], file=None, directory=None, download=True
    )
    return config

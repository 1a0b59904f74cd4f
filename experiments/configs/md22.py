r"""MD22: seven large molecules and assemblies, 42 to 370 atoms.

    python -m experiments.train --config=experiments/configs/md22.py:AT-AT --workdir=DIR

Options after the colon: the system and `lmax`. As many frames train as in the data set's own paper
(a twentieth of them validates), the rest tests. Model and rate are those of MD17's aspirin, since
the Equiformer paper has no recipe for MD22.
"""

from __future__ import annotations

from ml_collections import config_dict

from experiments.configs import md17, parts

# Frames for training and validation together, as in Chmiela et al., Science Advances 9, eadf0873
# (2023), and structures in a step.
RECIPES = {
    "Ac-Ala3-NHMe": (6000, 8),
    "DHA": (8000, 8),
    "stachyose": (8000, 8),
    "AT-AT": (3000, 8),
    "AT-AT-CG-CG": (2000, 4),
    "buckyball-catcher": (600, 4),
    "double-walled_nanotube": (800, 1),
}
NUM_EPOCHS = 500


def get_config(argument: str | None = None) -> config_dict.ConfigDict:
    """The recipe of a system; the module's text lists the options."""
    options = parts.parse_argument(argument, "system", system="AT-AT", lmax=2)
    num_frames, batch_size = parts.choose("system", options["system"], RECIPES)
    config = md17.get_config(f"aspirin,lmax={options['lmax']}")
    # All edges at once: in blocks, most of these batches would train slower on a CPU.
    config.model = parts.model(f"md17_l{options['lmax']}")
    config.data = parts.data(
        "md22",
        system=options["system"],
        num_train=num_frames - num_frames // 20,
        num_validation=num_frames // 20,
        order="random",
        file=None,
        directory=None,
        download=True,
    )
    config.training.num_epochs = NUM_EPOCHS
    config.training.batch_size = batch_size
    config.training.evaluation_batch_size = batch_size
    return config

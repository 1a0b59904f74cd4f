"""Revised MD17 and MD22 are trained as MD17 is, but for what their modules say.

SPEC has no recipe for either of them: it trains on the original MD17 (§12.3). The frames of MD22
are those of the paper of the data, Chmiela et al., Science Advances 9, eadf0873 (2023).
"""

from __future__ import annotations

import pytest

from equiformer_jax.data.readers.rmd17 import RMD17_MOLECULES
from equiformer_jax.training.configuration import to_plain
from experiments.configs import md17, md22, rmd17
from tests.experiments.recipe_checks import assert_rates, published_epoch_rates

# The highest rate of MD17's aspirin, whose recipe MD22 has (SPEC §12.3), for each lmax.
ASPIRIN_RATES = {2: 5e-4, 3: 2e-4}


def plain_md17(molecule, lmax):
    return to_plain(md17.get_config(f"{molecule},lmax={lmax}"))


@pytest.mark.parametrize("lmax", [2, 3])
@pytest.mark.parametrize("molecule", RMD17_MOLECULES)
def test_rmd17_has_the_recipe_of_md17_on_other_data(molecule, lmax):
    like = molecule if molecule in md17.RECIPES else "aspirin"
    config = to_plain(rmd17.get_config(f"{molecule},split=2,lmax={lmax}"))
    published = plain_md17(like, lmax)
    data = config.pop("data")
    assert data["name"] == "rmd17"
    assert (data["options"]["molecule"], data["options"]["split"]) == (molecule, 2)
    del published["data"]
    assert config == published


# Frames for training and validation together, and structures in a step.
MD22 = {
    "Ac-Ala3-NHMe": (6000, 8),
    "DHA": (8000, 8),
    "stachyose": (8000, 8),
    "AT-AT": (3000, 8),
    "AT-AT-CG-CG": (2000, 4),
    "buckyball-catcher": (600, 4),
    "double-walled_nanotube": (800, 1),
}


@pytest.mark.parametrize("lmax", [2, 3])
@pytest.mark.parametrize("system", MD22)
def test_md22_has_the_recipe_of_aspirin_with_a_length_of_its_own(system, lmax):
    num_frames, batch_size = MD22[system]
    config = md22.get_config(f"{system},lmax={lmax}")
    num_train = config.data.options.num_train
    assert num_train + config.data.options.num_validation == num_frames
    steps = num_train // batch_size
    base = ASPIRIN_RATES[lmax]
    assert_rates(config, num_train, published_epoch_rates(base, 10, 500, steps))

    changed, published = to_plain(config), plain_md17("aspirin", lmax)
    changed.pop("data"), published.pop("data")
    assert changed["model"].pop("edge_block_size") is None
    assert published["model"].pop("edge_block_size") == 4096
    for field, value in {
        "num_epochs": 500,
        "batch_size": batch_size,
        "evaluation_batch_size": batch_size,
    }.items():
        assert changed["training"].pop(field) == value
        published["training"].pop(field)
    assert changed == published


def test_md22_has_a_recipe_for_each_system():
    assert set(md22.RECIPES) == set(MD22)

from __future__ import annotations

import ase.units
import pytest

from equiformer_jax.data import units


def test_the_kilocalorie_is_ases():
    constants = ase.units.create_units("2014")
    assert constants["kcal"] / constants["mol"] == units.EV_PER_KCAL_MOL


def test_papers_list_md17_in_mev():
    assert round(1000 * units.EV_PER_KCAL_MOL, 3) == 43.364


def test_factors_of_qm9_are_those_of_the_published_recipe():
    assert units.QM9_EV_PER_HARTREE == 27.211386246
    assert units.QM9_EV_PER_KCAL_MOL == 0.04336414
    # Chemists' 627.509 kcal/mol in a hartree.
    ratio = units.QM9_EV_PER_HARTREE / units.QM9_EV_PER_KCAL_MOL
    assert ratio == pytest.approx(627.509, abs=1e-3)

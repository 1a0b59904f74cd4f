from __future__ import annotations

import numpy as np
import pytest

from equiformer_jax.inference.error_analysis import (
    force_errors_by_element,
    force_spread,
    label_errors_by_element,
    label_spread,
)
from equiformer_jax.training.evaluation import Evaluation
from tests.inference.made_up_runs import make_evaluation, structures


def evaluation(energy_errors=(1.0, -2.0, 4.0), force_errors=None):
    """Water, carbon monoxide and methane, and what is wrong with their predictions."""
    errors = np.zeros((10, 3)) if force_errors is None else force_errors
    return Evaluation(
        split="test",
        metrics={},
        structures=structures(),
        predicted_energies=-7.0 + np.array(energy_errors),
        reference_energies=np.full(3, -7.0),
        predicted_forces=1.0 + errors,
        reference_forces=np.ones((10, 3)),
    )


def test_energy_errors_go_to_every_element_of_the_structure():
    found = {row.symbol: row[1:] for row in label_errors_by_element(evaluation())}
    assert found == {"H": (2, 2.5), "C": (2, 3.0), "O": (2, 1.5)}


def test_elements_are_sorted():
    rows = label_errors_by_element(evaluation())
    assert [row.symbol for row in rows] == ["H", "C", "O"]


def test_force_errors_go_to_the_element_of_the_atom():
    # Atoms: O H H, C O, C H H H H.
    errors = np.zeros((10, 3))
    errors[0] = 3.0, 0.0, 0.0  # oxygen of water: mean 1
    errors[4] = -6.0, 0.0, 0.0  # oxygen of carbon monoxide: mean 2
    errors[9] = 0.0, 0.0, 9.0  # a hydrogen of methane: mean 3
    rows = force_errors_by_element(evaluation(force_errors=errors))
    found = {row.symbol: row[1:] for row in rows}
    assert found == {
        "H": (6, pytest.approx(0.5)),
        "C": (2, 0.0),
        "O": (2, pytest.approx(1.5)),
    }


def test_the_spread_and_the_largest_error_of_the_label():
    spread = label_spread(evaluation())
    assert spread[:4] == pytest.approx((7 / 3, 2.0, np.percentile([1, 2, 4], 95), 4.0))
    assert spread.where == "made_up.xyz: structure 2"


@pytest.mark.parametrize(
    ("atom", "where"),
    [
        (0, "made_up.xyz: structure 0, atom 0 (O), y"),
        (2, "made_up.xyz: structure 0, atom 2 (H), y"),
        (3, "made_up.xyz: structure 1, atom 0 (C), y"),
        (9, "made_up.xyz: structure 2, atom 4 (H), y"),
    ],
)
def test_the_largest_force_error_is_found(atom, where):
    errors = np.full((10, 3), 0.1)
    errors[atom, 1] = -5.0
    spread = force_spread(evaluation(force_errors=errors))
    assert spread.where == where
    assert spread.largest == pytest.approx(5.0)
    assert spread.median == pytest.approx(0.1)


def test_forces_must_be_there():
    with pytest.raises(ValueError, match="expected forces; that of 'test' has none"):
        force_spread(make_evaluation(forces=False))

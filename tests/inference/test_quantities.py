from __future__ import annotations

import math

import pytest

from equiformer_jax.inference.quantities import label_error_unit, readable
from equiformer_jax.training.metric_names import quantity_of_metric
from tests.inference.made_up_runs import make_evaluation


@pytest.mark.parametrize(
    ("metric", "quantity"),
    [
        ("energy_mae_mev", ("Energy", "meV")),
        ("force_mae_mev_per_angstrom", ("Forces", "meV/Å")),
        ("stress_mae_mev_per_cubic_angstrom", ("Stress", "meV/Å³")),
        ("displacement_mae_angstrom", ("Displacement", "Å")),
        ("cv_mae_cal_per_mol_kelvin", ("Heat capacity Cᵥ", "cal/(mol K)")),
        ("charge_mae_e", ("charge", "e")),
        ("energy_within_threshold", None),
        ("loss/energy", None),
    ],
)
def test_metrics_say_what_they_are_of(metric, quantity):
    assert quantity_of_metric(metric) == quantity


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1234.4, "1,234"),
        (99.94, "99.9"),
        (5.0, "5.00"),
        (0.046, "0.0460"),
        (0.000123, "0.000123"),
        (0.0, "0"),
        (-0.5, "-0.500"),
        (math.nan, "nan"),
    ],
)
def test_numbers_have_three_digits_and_no_exponent(value, text):
    assert readable(value) == text


@pytest.mark.parametrize(
    ("unit", "metrics", "expected"),
    [
        ("eV", {"energy_mae_mev": 1.0}, (1000.0, "meV")),
        ("eV", {}, (1000.0, "meV")),
        ("eV", {"energy_mae_ev": 1.0}, (1.0, "eV")),
        ("D", {}, (1.0, "D")),
        ("a0^2", {}, (1.0, "bohr²")),
    ],
)
def test_errors_are_told_in_the_unit_of_the_metric(unit, metrics, expected):
    assert label_error_unit(make_evaluation(energy_unit=unit, metrics=metrics)) == expected

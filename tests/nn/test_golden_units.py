"""Every fixture of a single layer of the official release, in both precisions."""

from __future__ import annotations

import pytest

from tests import golden
from tests.nn import golden_attention, golden_layers, golden_operations
from tests.paths import needs_golden

CHECKS = golden_operations.CHECKS | golden_layers.CHECKS | golden_attention.CHECKS
IRREPS_SETS = ("e2_", "o2_", "e3_")
NAMES = golden.names("unit")

pytestmark = needs_golden


def kind_of(name: str) -> str:
    """`norm_layer` for `e2_norm_layer`."""
    return name[3:] if name.startswith(IRREPS_SETS) else name


def marks(name: str) -> tuple:
    """In float32 layers made of layers are slow, but for one set of irreps: compiled once more."""
    is_composite = kind_of(name) in golden_attention.CHECKS
    return (pytest.mark.slow,) if is_composite and not name.startswith("e3_") else ()


def assert_agrees(name: str, tolerance: float) -> None:
    fixture = golden.read("unit", name)
    outputs = CHECKS[kind_of(name)](fixture)
    wanted = fixture.group("w3j" if name == "wigner_3j" else "out")
    if name == "spherical_harmonics":  # row 0 is the zero vector, which is no direction
        wanted = {key: rows[1:] for key, rows in wanted.items()}
    assert set(outputs) == set(wanted)
    for key, official in wanted.items():
        assert outputs[key].shape == official.shape, key
        assert golden.relative_error(outputs[key], official) < tolerance, key


def test_every_file_is_checked_and_every_check_has_a_file():
    assert {kind_of(name) for name in NAMES} == set(CHECKS)


@pytest.mark.parametrize("name", NAMES)
def test_float64(name):
    assert_agrees(name, 1e-9)


@pytest.mark.parametrize("name", [pytest.param(name, marks=marks(name)) for name in NAMES])
def test_float32(name, float32_mode):
    assert_agrees(name, 1e-4)

"""The committed fixtures are what the NumPy reference says, and cover what they should."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tests.paths import REPOSITORY
from tests.reference.derivatives import force_along
from tests.reference.fixture_cases import CASES, Case
from tests.reference.fixture_files import read_fixture
from tests.reference.model import forward
from tests.reference.neighbors import neighbor_list

FOLDER = REPOSITORY / "tests" / "fixtures"
STORED_AS = {"energy": "energy", "displacement": "aux", "denoising": "denoising"}


def test_every_case_has_its_file_and_no_file_is_left_over() -> None:
    assert {path.stem for path in FOLDER.glob("*.npz")} == {case.name for case in CASES}


def test_files_are_small() -> None:
    sizes = [path.stat().st_size for path in FOLDER.glob("*.npz")]
    assert max(sizes) < 150_000
    assert sum(sizes) < 1_000_000


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_reference_reproduces_the_file(case: Case) -> None:
    fixture = read_fixture(FOLDER / f"{case.name}.npz")
    assert fixture.meta["preset"] == case.preset
    scope = fixture.scope
    actual = forward(fixture.config, scope, fixture.batch)
    assert scope.used == set(fixture.parameters)
    for name, stored in STORED_AS.items():
        if name in actual:
            expected = fixture.outputs[stored].reshape(actual[name].shape)
            np.testing.assert_allclose(actual[name], expected, rtol=1e-10, atol=1e-12)

    forces = fixture.outputs["forces"]
    direction = np.cos(np.arange(forces.size)).reshape(forces.shape)
    slope = force_along(fixture.config, fixture.parameters, fixture.batch, direction)
    assert math.isclose(slope, (forces * direction).sum(), rel_tol=1e-9)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_edges_are_the_neighbors_within_the_cutoff(case: Case) -> None:
    arrays = read_fixture(FOLDER / f"{case.name}.npz").inputs
    start, pairs = 0, []
    for graph in range(arrays["batch"].max() + 1):
        positions = arrays["pos"][arrays["batch"] == graph]
        cell = arrays["cell"][graph] if "cell" in arrays else None
        edges = neighbor_list(positions, case.fields["max_radius"], cell, case.max_neighbors)
        pairs.append(np.stack([edges.senders, edges.receivers]) + start)
        start += len(positions)
    np.testing.assert_array_equal(np.hstack(pairs), arrays["edge_index"])

"""The NumPy reference against the official whole-model fixtures: values, forces, gradients."""

from __future__ import annotations

import math
import pathlib

import numpy as np
import pytest

from tests.paths import GOLDEN, needs_golden
from tests.reference.derivatives import (
    BUFFERS,
    displaced,
    force_along,
    force_slope,
    output_slopes,
    outputs,
    sixth_order_difference,
)
from tests.reference.fixture_files import Fixture, model_inputs, read_fixture
from tests.reference.model import forward
from tests.reference.neighbors import neighbor_list

MODELS = sorted((GOLDEN / "model").glob("*.npz"))
WITH_FORCES = [path for path in MODELS if path.stem.startswith(("md17", "dens"))]

pytestmark = needs_golden


def assert_close(actual: np.ndarray, expected: np.ndarray, tolerance: float = 1e-12) -> None:
    """Largest difference, relative to the largest expected entry."""
    assert actual.shape == expected.shape
    error = np.abs(actual - expected).max() / np.abs(expected).max()
    assert error <= tolerance, f"relative error {error:.1e}"


@pytest.mark.parametrize("path", MODELS, ids=lambda path: path.stem)
def test_values(path: pathlib.Path) -> None:
    """Energies, other outputs and every stored intermediate; and no parameter is left unread."""
    fixture = read_fixture(path)
    scope = fixture.scope
    actual = forward(fixture.config, scope, fixture.batch)
    assert scope.used == set(fixture.parameters)
    for name, expected in fixture.intermediates.items():
        assert_close(actual[name], expected)
    assert_close(actual["energy"], fixture.outputs["energy"][:, 0])
    if "aux" in fixture.outputs:
        assert_close(actual["displacement"], fixture.outputs["aux"])
    if "dy" in fixture.outputs:
        mask = fixture.inputs["noise_mask"]
        assert_close(actual["denoising"][mask], fixture.outputs["dy"][mask])


@pytest.mark.parametrize("path", WITH_FORCES, ids=lambda path: path.stem)
def test_forces_along_a_random_direction(path: pathlib.Path) -> None:
    fixture = read_fixture(path)
    expected = fixture.outputs["forces" if "forces" in fixture.outputs else "dy"]
    free = ~fixture.inputs.get("noise_mask", np.zeros(len(expected), bool))
    direction = np.random.default_rng(0).normal(size=expected.shape) * free[:, None]
    actual = force_along(fixture.config, fixture.parameters, fixture.batch, direction)
    assert math.isclose(actual, (expected * direction).sum(), rel_tol=1e-10)


def test_clean_evaluation_of_a_denoising_model() -> None:
    fixture = read_fixture(GOLDEN / "model" / "dens_l2.npz")
    clean = {"pos": fixture.inputs["pos_clean"], "edge_index": fixture.inputs["edge_index_clean"]}
    clean.update({name: fixture.inputs[name] for name in ("z", "batch")})
    inputs = model_inputs(clean)
    actual = outputs(fixture.config, fixture.parameters, inputs)["energy"]
    assert_close(actual, fixture.outputs["energy_clean"][:, 0])
    expected = fixture.outputs["forces_clean"]
    direction = np.random.default_rng(0).normal(size=expected.shape)
    slope = force_along(fixture.config, fixture.parameters, inputs, direction)
    assert math.isclose(slope, (expected * direction).sum(), rel_tol=1e-10)


@pytest.mark.parametrize("path", MODELS, ids=lambda path: path.stem)
def test_slope_of_the_loss_agrees_with_the_stored_gradient(path: pathlib.Path) -> None:
    """The official parameter gradients, through the forces too, along a random direction."""
    fixture = read_fixture(path)
    generator = np.random.default_rng(1)
    direction = {
        name: generator.normal(size=value.shape)
        for name, value in fixture.parameters.items()
        if name not in BUFFERS
    }
    expected = sum(
        (gradient * direction[name]).sum() for name, gradient in fixture.gradients.items()
    )
    assert math.isclose(loss_slope(fixture, direction), expected, rel_tol=1e-9)


def loss_slope(fixture: Fixture, direction: dict[str, np.ndarray]) -> float:
    """Slope of the loss that `meta["loss"]` describes."""
    slopes = output_slopes(fixture.config, fixture.parameters, fixture.batch, direction)
    arrays, stored = fixture.inputs, fixture.outputs
    target = arrays["target_e" if "target_e" in arrays else "target"].ravel()
    total = (np.sign(stored["energy"].ravel() - target) * slopes["energy"]).mean()
    if "aux" in stored:
        mask = arrays["tags"] > 0
        sign = np.sign(stored["aux"][mask] - 0.1)
        total += 15 * (sign * slopes["displacement"][mask]).mean()
    if "dy" in stored:
        mask = arrays["noise_mask"]
        errors = unit_vectors(stored["dy"][mask] - arrays["noise_vec"][mask] / 0.05)
        total += 5 * (errors * slopes["denoising"][mask]).sum(-1).mean()
    if "target_f" in arrays:
        total += 80 * force_loss_slope(fixture, direction)
    return float(total)


def force_loss_slope(fixture: Fixture, direction: dict[str, np.ndarray]) -> float:
    """Slope of the mean length of the force error over the atoms without noise."""
    predicted = fixture.outputs.get("forces", fixture.outputs.get("dy"))
    free = ~fixture.inputs.get("noise_mask", np.zeros(len(predicted), bool))
    along = unit_vectors(predicted - fixture.inputs["target_f"]) * free[:, None] / free.sum()
    return force_slope(fixture.config, fixture.parameters, fixture.batch, direction, along)


def unit_vectors(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def test_forces_agree_with_central_differences_of_the_energy() -> None:
    fixture = read_fixture(GOLDEN / "model" / "oc20_l1_linear.npz")
    config, parameters, inputs = fixture.config, fixture.parameters, fixture.batch
    direction = np.random.default_rng(2).normal(size=inputs.positions.shape)

    def energy(distance: float) -> np.ndarray:
        return outputs(config, parameters, displaced(inputs, distance * direction))["energy"].sum()

    slope = -sixth_order_difference(energy, 1e-3)
    actual = force_along(config, parameters, inputs, direction)
    assert math.isclose(actual, slope, rel_tol=1e-9)


def test_neighbor_lists_agree_with_the_stored_edges() -> None:
    arrays = read_fixture(GOLDEN / "model" / "oc20_l1_nonlinear_aux_pbc.npz").inputs
    stored = np.vstack([arrays["edge_index"], arrays["cell_offsets"].T]).astype(int)
    start, found = 0, []
    for graph, cell in enumerate(arrays["cell"]):
        positions = arrays["pos"][arrays["batch"] == graph]
        edges = neighbor_list(positions, 5.0, cell)
        found.append(np.vstack([edges.senders + start, edges.receivers + start, edges.offsets.T]))
        start += len(positions)
    columns = sorted(map(tuple, np.hstack(found).T.tolist()))
    assert columns == sorted(map(tuple, stored.T.tolist()))

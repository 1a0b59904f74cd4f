"""The model against the fixtures of an independent NumPy implementation (`tests/fixtures`).

Values, forces, vector heads and the slopes of a loss through all of them, in float64, through the
public interface. The slopes of most fixtures are marked slow: compiling them takes a while.
"""

from __future__ import annotations

import pathlib
from typing import NamedTuple

import jax
import jax.numpy as jnp
import jraph
import numpy as np
import pytest

import equiformer_jax as eqf
from tests.paths import REPOSITORY
from tests.reference.directions import DIRECTIONS, parameter_direction
from tests.reference.fixture_files import Arrays, Fixture, read_fixture

FOLDER = REPOSITORY / "tests" / "fixtures"
PATHS = sorted(FOLDER.glob("*.npz"))
VECTOR_OUTPUTS = {"aux": "displacement", "denoising": "denoising"}
TOLERANCE = 1e-9

SLOPES_BY_DEFAULT = ("md17_l3_exp", "oc20_auxiliary", "qm9_linear")

every_fixture = pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
slopes_of_every_fixture = pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, marks=() if path.stem in SLOPES_BY_DEFAULT else pytest.mark.slow)
        for path in PATHS
    ],
    ids=lambda path: path.stem,
)


class Setup(NamedTuple):
    """A fixture's model, parameters and batch, made by the package."""

    config: eqf.EquiformerConfig
    model: eqf.Equiformer
    variables: dict
    graph: jraph.GraphsTuple


def config_of(fixture: Fixture) -> eqf.EquiformerConfig:
    fields = {name: fixture.meta[name] for name in fixture.meta["config_fields"]}
    return eqf.get_preset(fixture.meta["preset"], **fields)


def graph_of(fixture: Fixture, cutoff: float) -> jraph.GraphsTuple:
    """The batch as the package builds it from structures, padding included."""
    arrays = fixture.inputs
    numbers = arrays["z"] if "z" in arrays else arrays["atomic_numbers"]
    graphs = []
    for index in range(arrays["batch"].max() + 1):
        atoms = arrays["batch"] == index
        optional = {"tags": arrays["tags"][atoms]} if "tags" in arrays else {}
        if "cell" in arrays:
            optional |= {"cell": arrays["cell"][index], "pbc": (True, True, True)}
        structure = eqf.Structure(arrays["pos"][atoms], numbers[atoms], **optional)
        graph = eqf.build_graph(structure, cutoff, fixture.meta.get("max_neighbors"))
        if "noise_mask" in arrays:
            noise = {
                "force_input": arrays["force"][atoms],
                "noise_mask": arrays["noise_mask"][atoms],
            }
            graph = graph._replace(nodes={**graph.nodes, **noise})
        graphs.append(graph)
    return eqf.batch_graphs(graphs)


def outputs_of(model: eqf.Equiformer, variables: dict, graph: jraph.GraphsTuple) -> dict:
    """Energies, forces and vector heads, under the names of the fixtures, padding included."""
    energy, forces = eqf.energy_and_forces(model, variables, graph)
    outputs = {"energy": energy[:, None], "forces": forces}
    values = model.apply(variables, graph)
    for name, key in VECTOR_OUTPUTS.items():
        if key in values:
            outputs[name] = values[key]
    return outputs


def half_mean_squares(outputs: dict, expected: Arrays) -> jax.Array:
    """The loss whose slopes are stored: the outputs' squares, without padding."""
    total = jnp.zeros(())
    for name, values in outputs.items():
        real = values[: len(expected[name])]
        total += 0.5 * jnp.mean(jnp.sum(real**2, axis=-1))
    return total


def set_up(fixture: Fixture) -> Setup:
    config = config_of(fixture)
    variables = eqf.variables_from_torch(fixture.parameters, config)
    return Setup(config, eqf.Equiformer(config), variables, graph_of(fixture, config.max_radius))


@every_fixture
def test_outputs(path: pathlib.Path) -> None:
    fixture = read_fixture(path)
    _, model, variables, graph = set_up(fixture)
    outputs = jax.jit(outputs_of, static_argnums=0)(model, variables, graph)
    assert set(outputs) == set(fixture.outputs)
    for name, values in outputs.items():
        expected = fixture.outputs[name]
        actual = np.asarray(values)[: len(expected)]
        assert np.abs(actual - expected).max() <= TOLERANCE * np.abs(expected).max(), name


@slopes_of_every_fixture
def test_slopes_of_the_loss(path: pathlib.Path) -> None:
    """Parameter gradients, through energies, forces and heads together."""
    fixture = read_fixture(path)
    config, model, variables, graph = set_up(fixture)

    def loss(variables: dict, graph: jraph.GraphsTuple) -> jax.Array:
        return half_mean_squares(outputs_of(model, variables, graph), fixture.outputs)

    gradient = eqf.variables_to_torch(jax.jit(jax.grad(loss))(variables, graph), config)
    expected = sum(fixture.slopes.values())
    shapes = {name: value.shape for name, value in fixture.parameters.items()}
    for index in range(DIRECTIONS):
        direction = parameter_direction(shapes, index)
        assert set(direction) <= set(gradient)
        slope = sum((gradient[name] * step).sum() for name, step in direction.items())
        assert abs(slope - expected[index]) <= TOLERANCE * np.abs(expected).max()


@every_fixture
def test_parameters_come_back_bit_for_bit(path: pathlib.Path) -> None:
    fixture = read_fixture(path)
    config = config_of(fixture)
    variables = eqf.variables_from_torch(fixture.parameters, config)
    returned = eqf.variables_to_torch(variables, config)
    for name, value in fixture.parameters.items():
        if name in returned:
            np.testing.assert_array_equal(returned[name], value)
    assert set(fixture.parameters) - set(returned) <= {"rbf.means", "rbf.betas"}

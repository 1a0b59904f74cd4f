"""Presets with few channels and random weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import e3nn_jax as e3nn
import jax
import jraph
import numpy as np

import equiformer_jax as eqf
from tests.models.small_systems import Budget, System, batch_of, graph_of, system_of

FEATURE_FIELDS = (
    "irreps_node_embedding",
    "irreps_feature",
    "irreps_head",
    "irreps_pre_attn",
    "irreps_mlp_mid",
)


def small_config(preset: str, **overrides: Any) -> eqf.EquiformerConfig:
    """A preset with a sixteenth of its channels, two layers, two heads, eight basis functions."""
    published = eqf.get_preset(preset)
    fields: dict[str, Any] = {"num_layers": 2, "num_heads": 2, "fc_neurons": (8, 8)}
    fields["number_of_basis"] = 8
    for field in FEATURE_FIELDS:
        irreps = getattr(published, field)
        if irreps is not None:
            fields[field] = fewer_channels(irreps, 16)
    return eqf.get_preset(preset, **(fields | overrides))


def fewer_channels(irreps: str, factor: int) -> str:
    """Divides every multiplicity, down to one."""
    return str(e3nn.Irreps([(max(1, mul // factor), ir) for mul, ir in e3nn.Irreps(irreps)]))


def random_variables(
    model: eqf.Equiformer, graph: jraph.GraphsTuple, seed: int = 0, dtype: Any = np.float64
) -> dict:
    """Variables whose biases, shifts and norms are random too, unlike those of `model.init`."""
    generator = np.random.default_rng(seed)
    shapes = jax.eval_shape(model.init, jax.random.key(0), graph)

    def draw(path: tuple, leaf: jax.ShapeDtypeStruct) -> np.ndarray:
        return _random_leaf(generator, path[-1].key, leaf.shape).astype(dtype)

    return jax.tree_util.tree_map_with_path(draw, shapes)


def _random_leaf(generator: np.random.Generator, name: str, shape: tuple[int, ...]) -> np.ndarray:
    if name == "frequencies":
        return np.pi * np.arange(1.0, shape[-1] + 1)
    if name in ("mean", "std"):
        return generator.uniform(0.2, 1, shape)
    noise = generator.normal(size=shape)
    if name == "kernel" or name[0].isdigit():  # kernels [..., fan_in, fan_out]
        return noise / shape[-2] ** 0.5
    if name in ("tensor_product_weight", "alpha_dot"):
        return noise
    near_one = name in ("affine_weight", "scale", "weight", "mean_shift")
    return near_one + 0.2 * noise


class Prediction(NamedTuple):
    """What a model says about one system of `n` atoms.

    Attributes:
      energy: a number.
      forces: `[n, 3]`.
      vectors: by name `[n, 3]`, from heads for displacement or denoising.
    """

    energy: np.ndarray
    forces: np.ndarray
    vectors: dict[str, np.ndarray]


class Predictor:
    """A small model that evaluates systems in batches of one shape, compiled at the first call.

    Attributes:
      config: of the model.
      model: the network.
      variables: random ones.
      budget: sizes of the batches.
    """

    def __init__(self, config: eqf.EquiformerConfig, budget: Budget, seed: int = 0) -> None:
        self.config = config
        self.model = eqf.Equiformer(config)
        self.budget = budget
        example = graph_of(system_of([[0.0, 0, 0], [0, 0, 1]]), config.max_radius)
        self.variables = random_variables(self.model, example, seed)
        self._outputs = jax.jit(self._trace)

    def _trace(self, variables: dict, graph: jraph.GraphsTuple) -> dict[str, jax.Array]:
        return all_outputs(self.model, variables, graph)

    def batch(self, systems: Sequence[System]) -> jraph.GraphsTuple:
        """One padded batch."""
        return batch_of(systems, self.config.max_radius, self.budget)

    def evaluate(self, graph: jraph.GraphsTuple) -> dict[str, np.ndarray]:
        """All outputs of a batch, padding included."""
        return jax.tree.map(np.asarray, self._outputs(self.variables, graph))

    def __call__(self, *systems: System) -> list[Prediction]:
        """One prediction per system."""
        outputs = self.evaluate(self.batch(systems))
        energies, forces = outputs.pop("energy"), outputs.pop("forces")
        stops = np.cumsum([system.size for system in systems])
        return [
            Prediction(
                energies[index],
                forces[stop - system.size : stop],
                {name: values[stop - system.size : stop] for name, values in outputs.items()},
            )
            for index, (system, stop) in enumerate(zip(systems, stops, strict=True))
        ]


def all_outputs(
    model: eqf.Equiformer, variables: dict, graph: jraph.GraphsTuple
) -> dict[str, jax.Array]:
    """Energies, forces and, from a model that has them, vectors; padding included."""
    energy, forces = eqf.energy_and_forces(model, variables, graph)
    outputs = {"energy": energy, "forces": forces}
    if model.config.use_auxiliary_task or model.config.use_denoising:
        outputs = {**model.apply(variables, graph), **outputs}
    return outputs


def directional_derivative(energy: Callable[[float], float], step: float = 1e-5) -> float:
    """Central difference of fourth order of `energy(s)` at zero.

    In a line of atoms normalization enlarges what is not along the line, and everything varies over
    some 1e-3 angstrom: the step is far below that.
    """
    one, two = energy(step) - energy(-step), energy(2 * step) - energy(-2 * step)
    return (8 * one - two) / (12 * step)


def assert_close(actual: Any, expected: Any, tolerance: float = 1e-9) -> None:
    """Differences are small against the largest number, or against 1 where that is smaller."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape
    assert np.isfinite(actual).all()
    difference = np.abs(actual - expected).max(initial=0)
    assert difference <= tolerance * max(1.0, np.abs(expected).max(initial=0)), difference


def assert_same(actual: Prediction, expected: Prediction, matrix: np.ndarray | None = None) -> None:
    """Two predictions agree after the vectors of the second are mapped by `matrix`."""
    matrix = np.eye(3) if matrix is None else matrix
    assert_close(actual.energy, expected.energy)
    assert_close(actual.forces, expected.forces @ matrix.T)
    assert actual.vectors.keys() == expected.vectors.keys()
    for name, vector in actual.vectors.items():
        assert_close(vector, expected.vectors[name] @ matrix.T)

"""Radial functions of all layers at the edges, from the networks or from a table.

Either way a layer's weights are `kernel.T @ basis(distance)` with a small basis: the hidden
features of its network and a one, or what a table has in their place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from equiformer_jax.models.config import EquiformerConfig
from equiformer_jax.nn.radial import RadialBasis, RadialNetwork

Parameters = Mapping[str, Any]

# Distances that are evaluated at once when a table is made.
_CHUNK = 512


class RadialBases(NamedTuple):
    """The bases of all layers at the edges.

    Attributes:
      values: per layer `[E, R]`.
      slopes: their derivatives by the distance, per layer `[E, R]`.
    """

    values: tuple[jax.Array, ...]
    slopes: tuple[jax.Array, ...]


class RadialTable(NamedTuple):
    """Cubic Hermite splines of the bases of all layers on knots at equal distances.

    Attributes:
      first: the first knot, Å.
      spacing: Å.
      knots: `[layers, K, 2, R]`, values and `spacing` times slopes at the knots.
    """

    first: jax.Array
    spacing: jax.Array
    knots: jax.Array


def network_bases(
    config: EquiformerConfig,
    basis: Parameters,
    networks: Sequence[Parameters],
    distance: jax.Array,
    attributes: jax.Array | None = None,
) -> RadialBases:
    """The hidden features of the networks and a one.

    Args:
      config: the model.
      basis: parameters of the radial basis, empty where it has none.
      networks: those of each network.
      distance: `[E]` in Å.
      attributes: `[E, A]`, what the networks read besides the distance.
    """

    def hidden(distance: jax.Array) -> tuple[jax.Array, ...]:
        scalars: Any = RadialBasis(
            config.basis_type, config.number_of_basis, config.max_radius
        ).apply({"params": basis}, distance)
        if attributes is not None:
            scalars = jnp.concatenate([attributes, scalars], axis=-1)
        return tuple(_hidden(config, network, scalars) for network in networks)

    values, slopes = jax.jvp(hidden, (distance,), (jnp.ones_like(distance),))
    return RadialBases(
        tuple(jnp.concatenate([x, jnp.ones_like(x[:, :1])], axis=1) for x in values),
        tuple(jnp.concatenate([x, jnp.zeros_like(x[:, :1])], axis=1) for x in slopes),
    )


def _hidden(config: EquiformerConfig, network: Parameters, scalars: jax.Array) -> jax.Array:
    module = RadialNetwork(config.fc_neurons, network["offset"].shape[-1])
    output: Any = module.apply({"params": network}, scalars)
    return output.hidden


def network_kernel(network: Parameters) -> np.ndarray:
    """From the hidden features and a one to the weights, `[R, weights]`."""
    return np.concatenate([network["kernel"], network["offset"][None]])


def table_bases(table: RadialTable, distance: jax.Array) -> RadialBases:
    """Reads a table.

    Args:
      table: of all layers.
      distance: `[E]` in Å; beyond the ends of the table the values at its ends are taken.
    """
    intervals = table.knots.shape[1] - 1
    scaled = jnp.clip((distance - table.first) / table.spacing, 0, intervals)
    index = jnp.minimum(scaled.astype(jnp.int32), intervals - 1)
    t = (scaled - index)[:, None]
    values, slopes = [], []
    for layer in table.knots:
        left, right = layer[index], layer[index + 1]
        step = right[:, 0] - left[:, 0]
        # p(t) = left + t (a + t (b + t c)) has the values and slopes of both knots.
        a = left[:, 1]
        b = 3 * step - 2 * a - right[:, 1]
        c = a + right[:, 1] - 2 * step
        values.append(left[:, 0] + t * (a + t * (b + t * c)))
        slopes.append((a + t * (2 * b + 3 * t * c)) / table.spacing)
    return RadialBases(tuple(values), tuple(slopes))


def build_table(
    bases: Callable[[jax.Array], RadialBases],
    first: float,
    last: float,
    tolerance: float,
    most_intervals: int = 2**14,
) -> tuple[RadialTable, float]:
    """Tabulates bases; knots are doubled until the error between them is small.

    Args:
      bases: of distances `[K]`, in float64.
      first: the first distance, Å.
      last: the last one, Å.
      tolerance: on the error of a basis function, over the largest value of its layer's.
      most_intervals: where to give up.

    Returns:
      The table in float64, and its error.

    Raises:
      ValueError: the functions are too rough for that many knots.
    """
    intervals = _CHUNK
    while True:
        distances = np.linspace(first, last, intervals + 1)
        table = _table_on(bases, distances)
        error = _error_between(bases, table, distances)
        if error <= tolerance:
            return table, error
        intervals *= 2
        if intervals > most_intervals:
            raise ValueError(
                f"radial functions: with {len(distances)} knots a table is off by {error:.1e} of "
                f"their largest value, more than {tolerance:.1e}: they are too rough for a table"
            )


def _evaluate(bases: Callable[[jax.Array], RadialBases], distances: np.ndarray) -> RadialBases:
    """Bases at many distances, in chunks of one size: compiled once."""
    count = -(-len(distances) // _CHUNK) * _CHUNK
    padded = np.pad(distances, (0, count - len(distances)), mode="edge")
    parts = [
        jax.tree.map(np.asarray, bases(jnp.asarray(chunk))) for chunk in padded.reshape(-1, _CHUNK)
    ]
    return jax.tree.map(lambda *arrays: np.concatenate(arrays)[: len(distances)], *parts)


def _table_on(bases: Callable[[jax.Array], RadialBases], distances: np.ndarray) -> RadialTable:
    spacing = distances[1] - distances[0]
    values, slopes = _evaluate(bases, distances)
    layers: Any = [
        np.stack([value, spacing * slope], axis=1)
        for value, slope in zip(values, slopes, strict=True)
    ]
    arrays: tuple[Any, ...] = (np.asarray(distances[0]), np.asarray(spacing), np.stack(layers))
    return RadialTable(*arrays)


def _error_between(
    bases: Callable[[jax.Array], RadialBases], table: RadialTable, distances: np.ndarray
) -> float:
    """The largest error in the middle between knots."""
    middle = (distances[1:] + distances[:-1]) / 2
    read = table_bases(jax.tree.map(jnp.asarray, table), jnp.asarray(middle))
    errors = [
        np.abs(np.asarray(found) - exact).max() / np.abs(exact).max()
        for found, exact in zip(read.values, _evaluate(bases, middle).values, strict=True)
    ]
    return float(max(errors))

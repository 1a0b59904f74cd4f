"""Refuses settings and batches that an objective cannot use, naming what is wrong."""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jraph


def node_label(graph: jraph.GraphsTuple, name: str) -> jax.Array:
    """`graph.nodes[name]`.

    Raises:
      ValueError: the graph has no such label.
    """
    return _label(graph.nodes, name, "nodes")


def graph_label(graph: jraph.GraphsTuple, name: str) -> jax.Array:
    """`graph.globals[name]`.

    Raises:
      ValueError: the graph has no such label.
    """
    return _label(graph.globals, name, "globals")


def _label(labels: Mapping[str, jax.Array] | None, name: str, where: str) -> jax.Array:
    if not labels or name not in labels:
        raise ValueError(
            f"the loss reads graph.{where}[{name!r}], which the batch has not; "
            f"it has {sorted(labels or ())}"
        )
    return labels[name]


def check_positive(**values: float) -> None:
    """Refuses numbers that are not above 0.

    Raises:
      ValueError: names the first of them.
    """
    for name, value in values.items():
        if not value > 0:
            raise ValueError(f"{name}={value}; expected a positive number")


def check_weights(**weights: float) -> None:
    """Refuses negative weights, all weights in the message.

    Raises:
      ValueError: one is negative.
    """
    if not all(weight >= 0 for weight in weights.values()):
        given = ", ".join(f"{name}={weight}" for name, weight in weights.items())
        raise ValueError(f"{given}; expected numbers of at least 0")


def check_choice(name: str, value: str, choices: Mapping[str, object]) -> None:
    """Refuses a name that is not among the choices.

    Raises:
      ValueError: lists them.
    """
    if value not in choices:
        raise ValueError(f"{name}={value!r}; expected one of {sorted(choices)}")

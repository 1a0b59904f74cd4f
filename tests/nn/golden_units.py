"""The official fixtures of single layers as this package sees them: features, edges, parameters."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any

import e3nn_jax as e3nn
import flax.linen as nn
import jax
import numpy as np

import equiformer_jax as eqf
from equiformer_jax.models.torch_checkpoint import unpack_slots
from equiformer_jax.models.torch_layout import Slot
from equiformer_jax.nn.context import GraphContext
from equiformer_jax.ops.attention import EdgeList
from equiformer_jax.ops.frames import aligning_rotation, wigner_matrices
from equiformer_jax.ops.irreps import to_features, to_irreps_array
from tests import golden


def config_of(fixture: golden.Fixture, **overrides: Any) -> eqf.EquiformerConfig:
    """The configuration that a layer of this fixture would have in a model."""
    meta = fixture.meta
    return eqf.EquiformerConfig(
        irreps_node_embedding=meta["node"],
        irreps_sh=meta["sh"],
        irreps_feature=meta["feat"],
        irreps_head=meta["head"],
        irreps_mlp_mid=meta["mlp"],
        num_heads=meta["num_heads"],
        number_of_basis=meta["fc_neurons"][0],
        fc_neurons=tuple(meta["fc_neurons"][1:]),
        nonlinear_message=meta.get("nonlinear_message", True),
        rescale_degree=meta.get("rescale_degree", False),
        **overrides,
    )


def params_from(fixture: golden.Fixture, slots: Iterable[Slot], prefix: str = "unit") -> Any:
    """The fixture's parameters as leaves of this package, official names under `prefix`."""
    arrays = {f"{prefix}.{name}": array for name, array in fixture.group("param").items()}
    slots = list(slots)
    assert {slot.name for slot in slots} == set(arrays)
    return unpack_slots(slots, arrays)


def apply_to_rows(
    module: nn.Module, params: Any, rows: np.ndarray, irreps: tuple[str, str], *others: Any
) -> jax.Array:
    """A module between official layouts, of `irreps[0]` and of `irreps[1]`."""

    @jax.jit
    def apply(params: Any, rows: jax.Array, others: Any) -> jax.Array:
        features = module.apply({"params": params}, to_features(rows, irreps[0]), *others)
        return to_irreps_array(features, irreps[1]).array

    return apply(params, rows, others)


def matrices_of(fixture: golden.Fixture) -> tuple[jax.Array, ...]:
    """Alignment of the edges, whose directions are their harmonics of degree 1."""
    directions = fixture.arrays["in/edge_attr"][:, 1:4] / 3**0.5
    return alignment(directions, e3nn.Irreps(fixture.meta["sh"]).lmax)


@functools.partial(jax.jit, static_argnums=1)
def alignment(directions: jax.Array, lmax: int) -> tuple[jax.Array, ...]:
    return wigner_matrices(aligning_rotation(directions), lmax)


def context_of(fixture: golden.Fixture) -> GraphContext:
    """The graph, its edges sorted by receiver."""
    inputs = fixture.group("in")
    order = np.argsort(inputs["edge_dst"], kind="stable")
    return GraphContext(
        edges=EdgeList(
            senders=inputs["edge_src"][order],
            receivers=inputs["edge_dst"][order],
            valid=np.ones(len(order), bool),
            log_envelope=None,
        ),
        matrices=tuple(np.asarray(matrix)[order] for matrix in matrices_of(fixture)),
        scalars=inputs["edge_scalars"][order],
        graph_index=inputs["batch"],
        n_node=np.bincount(inputs["batch"]),
    )

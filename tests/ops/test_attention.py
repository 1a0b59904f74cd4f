from __future__ import annotations

import e3nn_jax as e3nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from equiformer_jax.ops.activations import scaled_smooth_leaky_relu
from equiformer_jax.ops.attention import (
    EdgeList,
    attend,
    dot_product_logits,
    mlp_attention_logits,
    scale_queries,
)
from equiformer_jax.ops.irreps import Features
from tests.ops.symmetry import assert_features_close, random_features

HEADS, NODES = 2, 6
IRREPS = e3nn.Irreps("4x0e+2x1e")
# Node 2 has no edges, node 4 only one that is not valid.
RECEIVERS = np.array([0, 0, 0, 1, 1, 1, 1, 3, 4, 5, 5])
VALID = np.array([1, 1, 0, 1, 1, 1, 1, 1, 0, 0, 1], bool)
EMPTY_NODES = (2, 4)


def edge_list(envelope: np.ndarray | None = None) -> EdgeList:
    senders = np.random.default_rng(3).integers(NODES, size=len(RECEIVERS))
    valid = jnp.asarray(VALID)
    if envelope is None:
        return EdgeList(senders, jnp.asarray(RECEIVERS), valid, None)
    is_open = jnp.asarray(envelope) > 0  # an edge whose envelope is zero is not valid
    log_envelope = jnp.log(jnp.where(is_open, envelope, 1))
    return EdgeList(senders, jnp.asarray(RECEIVERS), valid & is_open, log_envelope)


@jax.jit
def attended(logits: jax.Array, values: Features) -> Features:
    return attend(logits, values, IRREPS, edge_list(), NODES)


def random_inputs(seed: int = 0) -> dict:
    rng = np.random.default_rng(seed)
    return {
        "logits": rng.normal(size=(len(RECEIVERS), HEADS)),
        "values": random_features(str(IRREPS), len(RECEIVERS), seed),
        "keep": 2.0 * rng.integers(2, size=(len(RECEIVERS), HEADS)),
        "envelope": rng.uniform(size=len(RECEIVERS)),
    }


def explicit_attention(logits, values, keep=None, envelope=None):
    """Softmax over the valid edges of each node, written out edge by edge."""
    keep = jnp.ones_like(logits) if keep is None else keep
    envelope = jnp.ones(len(logits)) if envelope is None else envelope
    totals = [jnp.zeros((NODES, *x.shape[1:])) for x in values]
    for node in range(NODES):
        edges = np.flatnonzero((node == RECEIVERS) & VALID)
        if not len(edges):
            continue
        exponentials = jnp.exp(logits[edges]) * envelope[edges, None]
        weights = exponentials / exponentials.sum(0) * keep[edges] * envelope[edges, None]
        for index, x in enumerate(values):
            per_head = x[edges].reshape(len(edges), x.shape[1], HEADS, -1)
            message = (weights[:, None, :, None] * per_head).reshape(x[edges].shape)
            totals[index] = totals[index].at[node].set(message.sum(0))
    return tuple(totals)


@pytest.mark.parametrize(
    "options", [(), ("keep",), ("envelope",), ("keep", "envelope")], ids=lambda o: "+".join(o)
)
def test_attention_is_an_explicit_softmax_with_its_gradient(options):
    inputs = random_inputs()
    optional = {name: inputs[name] for name in options}

    def explicit(logits, values, optional):
        return explicit_attention(logits, values, **optional)

    def summed(logits, values, optional):
        edges = edge_list(optional.get("envelope"))
        return attend(logits, values, IRREPS, edges, NODES, optional.get("keep"))

    @jax.jit
    def value_and_pullback(arguments):
        results = []
        for function in (explicit, summed):
            value, pullback = jax.vjp(function, *arguments)
            results.append((value, pullback(jax.tree.map(jnp.cos, value))))
        return results

    wanted, found = value_and_pullback((inputs["logits"], inputs["values"], optional))
    jax.tree.map(lambda x, y: np.testing.assert_allclose(y, x, atol=1e-12), wanted, found)


def test_nodes_without_valid_edges_receive_zeros():
    inputs = random_inputs()
    for total in attended(inputs["logits"], inputs["values"]):
        empty = np.isin(np.arange(NODES), EMPTY_NODES)
        np.testing.assert_array_equal(total[empty], 0)
        assert np.abs(total[~empty]).min() > 0


def test_dead_values_stay_dead_and_change_nothing():
    inputs = random_inputs()
    _, vectors = attended(inputs["logits"], inputs["values"])
    some = attended(inputs["logits"], (None, inputs["values"][1]))
    assert_features_close(some, (None, vectors))


def test_a_constant_added_to_the_logits_of_a_node_changes_nothing():
    inputs = random_inputs()
    shifted = inputs["logits"] + 500.0 * RECEIVERS[:, None]
    assert_features_close(
        attended(shifted, inputs["values"]),
        attended(inputs["logits"], inputs["values"]),
    )


def test_values_of_invalid_edges_are_not_read():
    inputs = random_inputs()
    changed = tuple(np.where(VALID[:, None, None], x, 1e6) for x in inputs["values"])
    logits = np.where(VALID[:, None], inputs["logits"], 1e6)
    assert_features_close(attended(logits, changed), attended(inputs["logits"], inputs["values"]))


@pytest.mark.parametrize("envelope", [None, 0.0], ids=["published", "envelope of zero"])
def test_second_derivatives_are_finite_without_neighbors(float32_mode, envelope):
    inputs = jax.tree.map(lambda x: np.asarray(x, np.float32), random_inputs())
    edges = edge_list(None if envelope is None else np.full(len(RECEIVERS), envelope, np.float32))

    def objective(logits, scale):
        values = tuple(scale * x for x in inputs["values"])
        return sum(jnp.sum(jnp.sin(x)) for x in attend(logits, values, IRREPS, edges, NODES))

    hessian_of = jax.jit(jax.hessian(objective, argnums=(0, 1)))
    hessian = hessian_of(inputs["logits"], jnp.ones(()))
    assert all(x.dtype == np.float32 for x in jax.tree.leaves(hessian))
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(hessian))


def test_mlp_logits():
    rng = np.random.default_rng(0)
    scores, alpha_dot = rng.normal(size=(5, HEADS, 3)), rng.normal(size=(HEADS, 3))
    wanted = np.sum(scaled_smooth_leaky_relu(scores) * alpha_dot, axis=-1)
    np.testing.assert_allclose(mlp_attention_logits(scores, alpha_dot), wanted)


def test_scaled_dot_products_have_the_variance_of_one_number():
    """Keys and scaled queries of normal numbers give logits of variance `1 / copies`."""
    irreps, edges = e3nn.Irreps("8x0e+4x1e+4x2e"), 20_000
    per_head = [(-1, ir.dim, HEADS, mul // HEADS) for mul, ir in irreps]
    queries = scale_queries(random_features(str(irreps), edges, 0), irreps, 8)
    keys = random_features(str(irreps), edges, 1)
    logits = dot_product_logits(
        [q.reshape(edges, *shape[1:]) for q, shape in zip(queries, per_head, strict=True)],
        [k.reshape(edges, *shape[1:]) for k, shape in zip(keys, per_head, strict=True)],
    )
    assert logits.shape == (edges, HEADS)
    # Every degree counts as much as its copies: sum over copies of (2l+1) / (8 (2l+1)).
    assert float(jnp.var(logits)) == pytest.approx(1.0, rel=0.05)

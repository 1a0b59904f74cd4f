from __future__ import annotations

import dataclasses

import flax
import jax
import numpy as np
import pytest

from equiformer_jax.nn.attention import GraphAttention
from tests.nn.small_graph import NODE, SETTINGS, small_context
from tests.ops.symmetry import assert_features_close, random_features

MESSAGES = {
    "nonlinear": SETTINGS,
    "linear": dataclasses.replace(SETTINGS, nonlinear_message=False),
    "dot_product": dataclasses.replace(SETTINGS, attention="dot_product"),
}
every_message = pytest.mark.parametrize("settings", MESSAGES.values(), ids=MESSAGES)


def variables_of(module, features, context):
    return jax.jit(module.init)(jax.random.key(0), features, context)


@every_message
def test_dead_irreps_are_left_out_and_change_nothing_else(settings):
    features, context = random_features(NODE, 7), small_context()
    whole = GraphAttention(settings, NODE, NODE)
    variables = variables_of(whole, features, context)
    scalars, vectors = jax.jit(whole.apply)(variables, features, context)
    for alive, wanted in ((("0e",), (scalars, None)), (("1e",), (None, vectors))):
        part = GraphAttention(settings, NODE, NODE, alive)
        found = jax.jit(part.apply)(variables, features, context)
        assert_features_close(found, wanted)


@every_message
def test_invalid_edges_are_as_if_they_were_not_there(settings):
    features, context = random_features(NODE, 7), small_context()
    kept = np.random.default_rng(0).random(len(context.scalars)) < 0.7
    masked = context._replace(edges=dataclasses.replace(context.edges, valid=kept))
    edges = jax.tree.map(lambda x: x[kept], context.edges)
    without = context._replace(
        edges=edges,
        matrices=tuple(x[kept] for x in context.matrices),
        scalars=context.scalars[kept],
    )
    module = GraphAttention(dataclasses.replace(settings, rescale_degree=True), NODE, NODE)
    variables = variables_of(module, features, context)
    apply = jax.jit(module.apply)
    assert_features_close(apply(variables, features, masked), apply(variables, features, without))


def test_dropout_of_weights_keeps_the_mean():
    features, context = random_features(NODE, 7), small_context()
    settings = dataclasses.replace(SETTINGS, alpha_drop=0.3)
    module = GraphAttention(settings, NODE, NODE, deterministic=False)
    variables = variables_of(GraphAttention(settings, NODE, NODE), features, context)
    wanted = jax.jit(GraphAttention(settings, NODE, NODE).apply)(variables, features, context)

    @jax.jit
    def draws(keys):
        return jax.vmap(
            lambda key: module.apply(variables, features, context, rngs={"dropout": key})
        )(keys)

    samples = draws(jax.random.split(jax.random.key(1), 500))
    for sample, x in zip(samples, wanted, strict=True):
        error = np.std(sample, axis=0) / 500**0.5
        assert (error > 0).all()
        assert (np.abs(np.mean(sample, axis=0) - x) < 6 * error).all()


def test_dropout_needs_a_random_stream():
    features, context = random_features(NODE, 7), small_context()
    settings = dataclasses.replace(SETTINGS, alpha_drop=0.3)
    variables = jax.eval_shape(
        GraphAttention(settings, NODE, NODE).init, jax.random.key(0), features, context
    )
    training = GraphAttention(settings, NODE, NODE, deterministic=False)
    with pytest.raises(flax.errors.InvalidRngError, match="dropout"):
        jax.eval_shape(training.apply, variables, features, context)

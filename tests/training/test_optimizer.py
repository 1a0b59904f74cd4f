from __future__ import annotations

import functools
import operator

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from equiformer_jax.training import cosine_epoch_schedule, make_optimizer
from equiformer_jax.training.optimizer import decay_mask, frozen_mask

# One leaf of every kind that the models have, and whether the published recipe decays it.
LEAVES = {
    ("atom_embedding", "linear", "0e"): True,
    ("atom_embedding", "linear", "bias"): False,
    ("edge_degree_embedding", "radial", "dense_0", "kernel"): True,
    ("edge_degree_embedding", "radial", "dense_0", "bias"): False,
    ("edge_degree_embedding", "radial", "norm_0", "scale"): False,
    ("edge_degree_embedding", "radial", "norm_0", "bias"): False,
    ("edge_degree_embedding", "radial", "offset"): True,
    ("blocks", "attention", "alpha_dot"): True,
    ("blocks", "attention", "tensor_product_weight"): True,
    ("blocks", "attention", "linear", "1e"): True,
    ("blocks", "norm_1", "affine_weight"): False,
    ("blocks", "norm_1", "affine_bias"): False,
    ("blocks", "norm_1", "mean_shift"): False,
    ("radial_basis", "mean"): False,
    ("radial_basis", "std"): False,
    ("radial_basis", "weight"): False,
    ("radial_basis", "bias"): False,
    ("radial_basis", "frequencies"): False,
}


def nested(flat):
    tree = {}
    for path, value in flat.items():
        node = tree
        for name in path[:-1]:
            node = node.setdefault(name, {})
        node[path[-1]] = value
    return tree


def leaf_of(tree, path):
    return functools.reduce(operator.getitem, path, tree)


def test_decay_groups_follow_the_published_rule():
    params = nested({path: jnp.ones(2) for path in LEAVES})
    assert decay_mask(params) == nested(LEAVES)


def test_two_steps_by_hand():
    rate, decay, b1, b2, eps = 0.1, 0.5, 0.9, 0.999, 1e-8
    params = {"kernel": jnp.array([1.0, -2.0]), "bias": jnp.array([3.0])}
    gradients = [
        {"kernel": jnp.array([0.5, 1.0]), "bias": jnp.array([-2.0])},
        {"kernel": jnp.array([-1.0, 0.25]), "bias": jnp.array([0.5])},
    ]
    optimizer = make_optimizer(rate, decay)
    state = optimizer.init(params)
    expected = {name: np.array(value) for name, value in params.items()}
    mean = dict.fromkeys(params, 0.0)
    square = dict.fromkeys(params, 0.0)
    for step, gradient in enumerate(gradients, start=1):
        updates, state = optimizer.update(gradient, state, params)
        params = optax.apply_updates(params, updates)
        for name in expected:
            g = np.array(gradient[name])
            mean[name] = b1 * mean[name] + (1 - b1) * g
            square[name] = b2 * square[name] + (1 - b2) * g**2
            direction = (mean[name] / (1 - b1**step)) / (
                np.sqrt(square[name] / (1 - b2**step)) + eps
            )
            shrink = 1 - rate * decay if name == "kernel" else 1.0
            expected[name] = expected[name] * shrink - rate * direction
    for name, value in expected.items():
        np.testing.assert_allclose(params[name], value, rtol=1e-12)


def test_without_decay_there_are_no_groups():
    params = {"kernel": jnp.ones(3)}
    state = make_optimizer(1e-3, 0.0).init(params)
    assert not any(
        isinstance(part, optax.MaskedState)
        for part in jax.tree.leaves(state, is_leaf=lambda part: isinstance(part, optax.MaskedState))
    )


def test_follows_a_schedule_inside_jit():
    schedule = cosine_epoch_schedule(1e-2, 1, 4, 1, warmup_lr=1e-4)
    optimizer = make_optimizer(schedule, 0.0)
    params = {"kernel": jnp.array([1.0])}
    state = optimizer.init(params)
    for step in range(3):
        # A constant gradient makes Adam's direction one, so an update is the rate.
        updates, state = jax.jit(optimizer.update)({"kernel": jnp.array([2.0])}, state, params)
        np.testing.assert_allclose(-updates["kernel"][0], schedule(step), rtol=1e-7)


def test_a_negative_decay_is_refused():
    with pytest.raises(ValueError, match="weight_decay"):
        make_optimizer(1e-3, -1.0)


def test_clipping_scales_the_whole_gradient_before_anything_else():
    params = {"kernel": jnp.array([1.0, -2.0]), "bias": jnp.array([3.0])}
    gradient = {"kernel": jnp.array([3.0, 0.0]), "bias": jnp.array([-4.0])}
    clipped, plain = make_optimizer(0.1, 0.5, clip_norm=1.0), make_optimizer(0.1, 0.5)
    shorter = jax.tree.map(lambda g: g / 5.0, gradient)
    for given, same in ((gradient, shorter), (shorter, shorter)):
        updates, state = clipped.update(given, clipped.init(params), params)
        expected, plain_state = plain.update(same, plain.init(params), params)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-15), updates, expected)
        moments = [jax.tree.leaves(s) for s in (state, plain_state)]
        for ours, theirs in zip(*moments, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-14)


def test_patterns_name_parameters_and_modules():
    params = nested({path: jnp.ones(2) for path in LEAVES})

    def frozen(*patterns):
        mask = frozen_mask(params, patterns)
        return {path for path in LEAVES if leaf_of(mask, path)}

    assert frozen("blocks.attention.alpha_dot") == {("blocks", "attention", "alpha_dot")}
    assert frozen("blocks") == {path for path in LEAVES if path[0] == "blocks"}
    assert frozen("atom_embedding.*", "radial_basis") == {
        path for path in LEAVES if path[0] in ("atom_embedding", "radial_basis")
    }
    assert frozen("*.bias") == {path for path in LEAVES if path[-1] == "bias"}
    assert frozen() == set()


def test_frozen_parameters_stay_and_take_no_memory():
    params = nested({path: jnp.ones(2) for path in LEAVES})
    gradient = jax.tree.map(jnp.ones_like, params)
    optimizer = make_optimizer(1e-2, 0.1, freeze=("blocks", "*.radial"))
    state = optimizer.init(params)
    sizes = sum(leaf.size for leaf in jax.tree.leaves(state) if leaf.ndim)
    trained = {path for path in LEAVES if path[0] != "blocks" and "radial" not in path}
    assert sizes == 2 * 2 * len(trained)
    updates, _ = jax.jit(optimizer.update)(gradient, state, params)
    plain = make_optimizer(1e-2, 0.1)
    expected, _ = plain.update(gradient, plain.init(params), params)
    for path in LEAVES:
        update, unfrozen = (
            functools.reduce(operator.getitem, path, t) for t in (updates, expected)
        )
        np.testing.assert_allclose(update, unfrozen if path in trained else 0.0, rtol=1e-14)


def test_clipping_looks_at_the_trained_parameters_alone():
    params = {"old": {"kernel": jnp.ones(1)}, "new": {"kernel": jnp.ones(1)}}
    gradient = {"old": {"kernel": jnp.array([1e6])}, "new": {"kernel": jnp.array([0.5])}}
    optimizer = make_optimizer(1e-2, 0.0, clip_norm=1.0, freeze=("old",))
    _, state = optimizer.update(gradient, optimizer.init(params), params)
    means = [leaf for leaf in jax.tree.leaves(state) if leaf.ndim]
    np.testing.assert_allclose(means[0], [0.05])  # a tenth of the gradient as it came


def stacked():
    """Three blocks, the last one, and something else."""
    return {
        "blocks": {"attention": {"kernel": jnp.ones((3, 2))}, "norm": {"scale": jnp.ones(3)}},
        "last_block": {"attention": {"kernel": jnp.ones(2)}},
        "temperature": jnp.ones(()),
    }


def step_of(freeze, clip_norm=None):
    """Which numbers a step with weight decay changes, and the moments after it."""
    params = stacked()
    optimizer = make_optimizer(1e-2, 0.1, freeze=freeze, clip_norm=clip_norm)
    updates, state = optimizer.update(
        jax.tree.map(jnp.ones_like, params), optimizer.init(params), params
    )
    return jax.tree.map(lambda x: np.asarray(x != 0), updates), state


def test_the_first_blocks_are_frozen():
    moved, state = step_of(("blocks[0:2]",))
    np.testing.assert_array_equal(moved["blocks"]["attention"]["kernel"][:, 0], [0, 0, 1])
    np.testing.assert_array_equal(moved["blocks"]["norm"]["scale"], [0, 0, 1])
    assert moved["last_block"]["attention"]["kernel"].all()
    assert moved["temperature"]
    moments = [x for x in jax.tree.leaves(state) if x.shape == (3, 2)]
    assert len(moments) == 2
    for moment in moments:
        np.testing.assert_array_equal(moment[:, 0] != 0, [0, 0, 1])


def test_modules_of_some_blocks_are_frozen_beside_whole_parameters():
    moved, _ = step_of(("blocks[-1:].att*", "last_block"))
    np.testing.assert_array_equal(moved["blocks"]["attention"]["kernel"][:, 0], [1, 1, 0])
    assert moved["blocks"]["norm"]["scale"].all()
    assert not moved["last_block"]["attention"]["kernel"].any()


def test_clipping_does_not_see_frozen_blocks():
    _, state = step_of(("blocks[:]", "last_block"), clip_norm=0.5)
    (mean, _) = (x for x in jax.tree.leaves(state) if jnp.issubdtype(x.dtype, jnp.floating) and
                 x.shape == ())  # fmt: skip
    np.testing.assert_allclose(mean, 0.1 * 0.5)  # the norm is that of one number


@pytest.mark.parametrize("pattern", ["blocks[3:9]", "blocks[0:1].attentoin", "blocks[2:1]"])
def test_a_pattern_of_blocks_that_names_nothing_is_refused(pattern):
    optimizer = make_optimizer(1e-3, 0.0, freeze=(pattern,))
    with pytest.raises(ValueError, match="names nothing; there are 3 blocks"):
        optimizer.init(stacked())


def test_a_pattern_that_names_nothing_is_refused_with_what_there_is():
    params = {"blocks": {"kernel": jnp.ones(1)}, "energy_head": {"kernel": jnp.ones(1)}}
    optimizer = make_optimizer(1e-3, 0.0, freeze=("blocks", "blok*"))
    with pytest.raises(ValueError, match=r"\['blok\*'\]; .* \['blocks', 'energy_head'\]"):
        optimizer.init(params)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"clip_norm": 0.0}, "clip_norm=0.0; expected a positive number or None"),
        ({"freeze": "blocks"}, r"freeze='blocks'; expected a sequence .* \('blocks',\)"),
    ],
)
def test_impossible_extras_are_refused_by_name(settings, message):
    with pytest.raises(ValueError, match=message):
        make_optimizer(1e-3, 0.0, **settings)

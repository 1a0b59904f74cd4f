"""AdamW with the published rule for which parameters decay, and what fine-tuning adds to it."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import optax

# Leaves that do not decay wherever they are: biases, and everything that normalizations learn.
NO_DECAY_LEAVES = frozenset({"bias", "scale", "affine_weight", "affine_bias", "mean_shift"})
# Modules none of whose parameters decay: learned radial basis functions.
NO_DECAY_MODULES = frozenset({"radial_basis"})
_BLOCKS = re.compile(r"blocks\[(?P<start>-?\d*):(?P<stop>-?\d*)\](?P<inside>(?:\..+)?)")


def decay_mask(params: optax.Params) -> optax.Params:
    """Tells which parameters decay, by their path (SPEC §12.1).

    Weights of linear maps and of tensor products, weights and offsets of the radial networks and
    the attention vectors decay. Biases, the parameters of normalizations and those of the radial
    basis functions do not.

    Args:
      params: nested mapping of parameters.

    Returns:
      The same structure with a bool in place of each parameter.
    """

    def decays(path: tuple, _: jax.Array) -> bool:
        names = _names(path)
        return names[-1] not in NO_DECAY_LEAVES and NO_DECAY_MODULES.isdisjoint(names)

    return jax.tree_util.tree_map_with_path(decays, params)


def frozen_mask(params: optax.Params, patterns: Sequence[str]) -> optax.Params:
    """Tells which parameters patterns name.

    Args:
      params: nested mapping of parameters.
      patterns: each the path of a parameter or of a module, which stands for all parameters in it,
        its names joined by dots; `*` stands for any text, `?` for any character. For example
        `atom_embedding`, `blocks.attention.*` or `*.bias`. The blocks before the last one are one
        module, `blocks`; some of them are named as in `blocks[0:3]`, which `trained_rows` reads.

    Returns:
      The same structure with a bool in place of each parameter.

    Raises:
      ValueError: a pattern names nothing; tells it and the modules that there are.
    """
    unmatched = set(patterns)

    def is_frozen(path: tuple, _: jax.Array) -> bool:
        found = {pattern for pattern in patterns if _is_named(path, pattern)}
        unmatched.difference_update(found)
        return bool(found)

    mask = jax.tree_util.tree_map_with_path(is_frozen, params)
    if unmatched:
        raise ValueError(
            f"freeze: no parameter matches {sorted(unmatched)}; the modules of this model are "
            f"{sorted(params)}"
        )
    return mask


def trained_rows(params: optax.Params, patterns: Sequence[str]) -> optax.Params:
    """Tells which blocks patterns leave free.

    The blocks before the last one are repetitions of one module: each of their parameters has a
    leading axis for them.

    Args:
      params: nested mapping of parameters.
      patterns: such as `blocks[0:3]`, the first three blocks, or `blocks[:2].attention`, a module
        inside; limits are those of Python's slices, and `*` and `?` are allowed behind them.

    Returns:
      The same structure with a bool array in place of each parameter, which broadcasts with it.

    Raises:
      ValueError: a pattern names no block, or nothing in it.
    """
    unmatched = set(patterns)

    def rows(path: tuple, leaf: jax.Array) -> jax.Array:
        free = jnp.ones(leaf.shape[:1] or (1,), bool)
        for pattern in patterns:
            found = _BLOCKS.fullmatch(pattern)
            if found and _is_named(path, "blocks" + found["inside"]):
                chosen = slice(*(int(found[k]) if found[k] else None for k in ("start", "stop")))
                if len(range(*chosen.indices(leaf.shape[0]))):
                    unmatched.discard(pattern)
                    free = free.at[chosen].set(False)
        return free.reshape(-1, *[1] * (leaf.ndim - 1)) if leaf.ndim else free[0]

    masks = jax.tree_util.tree_map_with_path(rows, params)
    if unmatched:
        counts = {leaf.shape[0] for leaf in jax.tree.leaves(params.get("blocks", {}))}
        raise ValueError(
            f"freeze: {sorted(unmatched)} names nothing; there are {max(counts, default=0)} blocks "
            "in `blocks`, counted from 0, and `last_block`"
        )
    return masks


def make_optimizer(
    learning_rate: optax.ScalarOrSchedule,
    weight_decay: float,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    *,
    clip_norm: float | None = None,
    freeze: Sequence[str] = (),
) -> optax.GradientTransformation:
    """AdamW with decoupled weight decay on the published group of parameters (SPEC §12.1).

    Args:
      learning_rate: a number, or a function of the step such as `cosine_epoch_schedule`.
      weight_decay: decay of `decay_mask`'s parameters, times the learning rate, in each step; with
        0 there are no groups.
      b1: decay rate of the mean of the gradient.
      b2: decay rate of the mean of its square.
      eps: added to the square root of that mean.
      clip_norm: scale a longer gradient down to this norm, over all parameters that are trained,
        before anything else (SPEC §12.4); `None` for no clipping.
      freeze: patterns of parameters that stay as they are: of whole parameters, which take no
        memory in the optimizer then (`frozen_mask`), or of some blocks (`trained_rows`).

    Returns:
      The optimizer, for the parameters alone (`variables["params"]`).

    Raises:
      ValueError: the weight decay is negative, the norm not positive or `freeze` a text instead of
        several; from the optimizer's `init` where a pattern names no parameter.
    """
    if weight_decay < 0:
        raise ValueError(f"weight_decay={weight_decay}; expected a number of at least 0")
    if clip_norm is not None and not clip_norm > 0:
        raise ValueError(f"clip_norm={clip_norm}; expected a positive number or None")
    if isinstance(freeze, str):
        raise ValueError(f"freeze={freeze!r}; expected a sequence of patterns, as ({freeze!r},)")
    if weight_decay == 0:
        optimizer = optax.adam(learning_rate, b1=b1, b2=b2, eps=eps)
    else:
        optimizer = optax.adamw(
            learning_rate, b1=b1, b2=b2, eps=eps, weight_decay=weight_decay, mask=decay_mask
        )
    if clip_norm is not None:
        optimizer = optax.chain(optax.clip_by_global_norm(clip_norm), optimizer)
    blocks = [pattern for pattern in freeze if _BLOCKS.fullmatch(pattern)]
    if blocks:
        optimizer = _with_frozen_blocks(optimizer, blocks)
    whole = [pattern for pattern in freeze if pattern not in blocks]
    return _with_frozen(optimizer, whole) if whole else optimizer


def _with_frozen_blocks(
    optimizer: optax.GradientTransformation, patterns: Sequence[str]
) -> optax.GradientTransformation:
    """Lets no gradient of these blocks into the optimizer, and no update of them out of it.

    So norm and moments know of none, and nothing decays.
    """

    def masked(updates: optax.Updates) -> optax.Updates:
        masks = trained_rows(updates, patterns)
        return jax.tree.map(lambda free, x: jnp.where(free, x, 0), masks, updates)

    def update(
        updates: optax.Updates, state: optax.OptState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, optax.OptState]:
        updates, state = optimizer.update(masked(updates), state, params)
        return masked(updates), state

    def init(params: optax.Params) -> optax.OptState:
        trained_rows(params, patterns)  # names what is mistyped
        return optimizer.init(params)

    return optax.GradientTransformation(init, update)


def _with_frozen(
    optimizer: optax.GradientTransformation, patterns: Sequence[str]
) -> optax.GradientTransformation:
    def labels(params: optax.Params) -> optax.Params:
        mask = frozen_mask(params, patterns)
        return jax.tree.map(lambda is_frozen: "frozen" if is_frozen else "trained", mask)

    return optax.partition({"trained": optimizer, "frozen": optax.set_to_zero()}, labels)


def _is_named(path: tuple, pattern: str) -> bool:
    """Whether a pattern names a parameter, or a module that it is in."""
    names = _names(path)
    ends = range(1, len(names) + 1)
    return any(fnmatch.fnmatchcase(".".join(names[:end]), pattern) for end in ends)


def _names(path: tuple) -> list[str]:
    """The names on the way to a parameter."""
    return [str(getattr(key, "key", key)) for key in path]

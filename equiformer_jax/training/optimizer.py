"""AdamW with the published rule for which parameters decay."""

from __future__ import annotations

import jax
import optax

# Leaves that do not decay wherever they are: biases, and everything that normalizations learn.
NO_DECAY_LEAVES = frozenset({"bias", "scale", "affine_weight", "affine_bias", "mean_shift"})
# Modules none of whose parameters decay: learned radial basis functions.
NO_DECAY_MODULES = frozenset({"radial_basis"})


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
        names = [str(getattr(key, "key", key)) for key in path]
        return names[-1] not in NO_DECAY_LEAVES and NO_DECAY_MODULES.isdisjoint(names)

    return jax.tree_util.tree_map_with_path(decays, params)


def make_optimizer(
    learning_rate: optax.ScalarOrSchedule,
    weight_decay: float,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
) -> optax.GradientTransformation:
    """AdamW with decoupled weight decay on the published group of parameters (SPEC §12.1).

    Args:
      learning_rate: a number, or a function of the step such as `cosine_epoch_schedule`.
      weight_decay: decay of `decay_mask`'s parameters, times the learning rate, in each step; with
        0 there are no groups.
      b1: decay rate of the mean of the gradient.
      b2: decay rate of the mean of its square.
      eps: added to the square root of that mean.

    Returns:
      The optimizer, for the parameters alone (`variables["params"]`).

    Raises:
      ValueError: the weight decay is negative.
    """
    if weight_decay < 0:
        raise ValueError(f"weight_decay={weight_decay}; expected a number of at least 0")
    if weight_decay == 0:
        return optax.adam(learning_rate, b1=b1, b2=b2, eps=eps)
    return optax.adamw(
        learning_rate, b1=b1, b2=b2, eps=eps, weight_decay=weight_decay, mask=decay_mask
    )

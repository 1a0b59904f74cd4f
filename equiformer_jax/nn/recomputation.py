"""Computing again in the backward pass instead of keeping."""

from __future__ import annotations

from typing import Any, TypeVar, cast

import flax.linen as nn
import jax

# The energy is differentiated for the forces, and the forces for the gradient of their loss.
_DERIVATIVES = 2

# Sums over the edges of a node are small beside what is summed, and sums over devices are sent.
_SUMS = frozenset({"scatter-add", "psum", "pmax"})

_Target = TypeVar("_Target")


def recomputed(target: _Target, in_loop: bool = False) -> _Target:
    """Keeps nothing of a computation for its derivatives but what goes in.

    Args:
      target: a module class, or a function whose first argument is a module.
      in_loop: whether it is the body of a loop: nothing moves out of it. Elsewhere the compiler is
        kept from recognizing that it computes something twice.
    """
    return _for_all_derivatives(target, prevent_cse=not in_loop)


def keeping_products(target: _Target) -> _Target:
    """Keeps the results of matrix products and of sums, and computes again what lies between.

    No product with a matrix that edges share is taken twice. Activations, gates, radial weights
    times features and rotations cost less to do again than to write and to read: of each of their
    pieces there is an array, and of each array a loop over layers makes a stack, of zeros first.

    Args:
      target: a module class, or a function whose first argument is a module.
    """
    return _for_all_derivatives(target, prevent_cse=False, policy=_is_kept)


def _for_all_derivatives(target: _Target, **options: Any) -> _Target:
    """One rematerialization serves one derivative.

    When a gradient is differentiated again, the recomputation is an ordinary computation whose
    intermediates are kept. Hence one for each.
    """
    found: Any = target  # Flax's own type variable knows classes and functions, not either
    for _ in range(_DERIVATIVES):
        found = nn.remat(found, **options)
    return cast("_Target", found)


def _is_kept(primitive: Any, *arguments: Any, **parameters: Any) -> bool:
    if primitive.name in _SUMS:
        return True
    kept: Any = jax.checkpoint_policies.dots_with_no_batch_dims_saveable
    return bool(kept(primitive, *arguments, **parameters))

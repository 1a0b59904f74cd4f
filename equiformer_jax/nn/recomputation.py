"""Computing again in the backward pass instead of keeping."""

from __future__ import annotations

from typing import Any, TypeVar, cast

import flax.linen as nn
import jax

# The energy is differentiated for the forces, and the forces for the gradient of their loss.
_DERIVATIVES = 2

# Sums over the edges of a node are small beside what is summed; sums and maxima over devices would
# be sent again, random numbers drawn again.
_KEPT = frozenset({"scatter-add", "psum", "pmax", "random_bits"})

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
    """Keeps what matrix products and sums over edges give, and computes again what lies between.

    Products with a matrix that edges share are not taken twice. Activations, gates, radial weights
    times features and rotations cost less to do again than to write and to read: of each of their
    pieces there is an array, and of each array a loop over layers makes a stack, of zeros first.
    Outside a loop the compiler may merge what it finds twice, and keep it: the last block of a
    model holds a little more than the others.

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
    if primitive.name in _KEPT:
        return True
    kept: Any = jax.checkpoint_policies.dots_with_no_batch_dims_saveable
    return bool(kept(primitive, *arguments, **parameters))

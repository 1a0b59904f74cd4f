"""Computing again in the backward pass instead of keeping."""

from __future__ import annotations

from typing import Any, TypeVar, cast

import flax.linen as nn

# The energy is differentiated for the forces, and the forces for the gradient of their loss.
_DERIVATIVES = 2

_Target = TypeVar("_Target")


def recomputed(target: _Target, in_loop: bool = False) -> _Target:
    """Keeps nothing of a computation for its derivatives but what goes in.

    One rematerialization serves one derivative: when a gradient is differentiated again, the
    recomputation is an ordinary computation whose intermediates are kept. Hence one for each.

    Args:
      target: a module class, or a function whose first argument is a module.
      in_loop: whether it is the body of a loop: nothing moves out of it. Elsewhere the compiler is
        kept from recognizing that it computes something twice.
    """
    found: Any = target  # Flax's own type variable knows classes and functions, not either
    for _ in range(_DERIVATIVES):
        found = nn.remat(found, prevent_cse=not in_loop)
    return cast("_Target", found)

"""Directions in parameter space along which the project's own fixtures store slopes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from tests.reference.derivatives import BUFFERS

DIRECTIONS = 3


def parameter_direction(shapes: Mapping[str, tuple[int, ...]], index: int) -> dict[str, np.ndarray]:
    """The direction number `index`: `sin((index+1) n)` over all entries, numbered by sorted name.

    A formula rather than a random generator, since it must be the same with every NumPy. Constant
    buffers are left out.

    Args:
      shapes: of all parameters by official name.
      index: 0, 1, ...

    Returns:
      One array per parameter.
    """
    direction, start = {}, 1
    for name in sorted(set(shapes) - set(BUFFERS)):
        size = int(np.prod(shapes[name]))
        numbers = np.arange(start, start + size)
        direction[name] = np.sin((index + 1.0) * numbers).reshape(shapes[name])
        start += size
    return direction

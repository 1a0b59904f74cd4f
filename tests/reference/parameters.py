"""Where the formulas find their parameters: a dictionary under official `state_dict` names.

A `Scope` is a view of that dictionary below a prefix. With a generator it draws what is missing
instead, so that a forward pass through an empty scope makes a complete set of random parameters.
"""

from __future__ import annotations

import numpy as np


class Scope:
    """Parameters below a prefix, checked for shape as they are read.

    Attributes:
      arrays: all parameters, full official name -> array.
      prefix: what the names of this scope start with, `""` or ending in a dot.
      generator: draws missing parameters; None makes a missing parameter an error.
      used: the full names read so far, shared by all scopes of one root.
    """

    def __init__(
        self,
        arrays: dict[str, np.ndarray],
        generator: np.random.Generator | None = None,
        prefix: str = "",
        used: set[str] | None = None,
    ):
        self.arrays = arrays
        self.generator = generator
        self.prefix = prefix
        self.used = set() if used is None else used

    def child(self, name: str) -> Scope:
        """The scope of the submodule `name`."""
        return Scope(self.arrays, self.generator, f"{self.prefix}{name}.", self.used)

    def array(
        self, name: str, shape: tuple[int, ...], center: float = 0.0, spread: float = 0.1
    ) -> np.ndarray:
        """The parameter `name` of this scope.

        Args:
          name: last part of the official name.
          shape: what the formula needs.
          center: mean, should it have to be drawn.
          spread: standard deviation, should it have to be drawn.

        Raises:
          KeyError: it is missing and there is no generator.
          ValueError: its shape is another one.
        """
        full_name = self.prefix + name
        if full_name not in self.arrays:
            if self.generator is None:
                raise KeyError(f"parameter {full_name} is missing (expected shape {shape})")
            self.arrays[full_name] = _on_grid(self.generator.normal(center, spread, shape))
        value = self.arrays[full_name]
        if value.shape != shape:
            raise ValueError(f"parameter {full_name}: shape {value.shape}, expected {shape}")
        self.used.add(full_name)
        return value if np.iscomplexobj(value) else value.astype(np.float64)

    def buffer(self, name: str, expected: np.ndarray) -> np.ndarray:
        """A constant that the official release stores beside its parameters.

        Raises:
          ValueError: it is there and differs from the formula (beyond float32 rounding).
        """
        full_name = self.prefix + name
        if self.generator is not None:
            self.arrays.setdefault(full_name, expected)
        stored = self.arrays.get(full_name, expected)
        if not np.allclose(stored, expected, rtol=1e-6):
            raise ValueError(f"buffer {full_name} differs from the published constant")
        self.used.add(full_name)
        return expected


def _on_grid(values: np.ndarray) -> np.ndarray:
    """Rounded to multiples of 1/128: exact in every float type, and small once compressed."""
    return np.round(values * 128) / 128

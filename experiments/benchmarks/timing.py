"""Compiling and timing, always in turn with what the machine itself can do."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from equiformer_jax.training.compiled import compile_for

MATRIX_SIZE = 2048
_COPIED_BYTES = 2**28
_PRODUCTS = 3

Arguments = tuple[Any, ...]


class Machine:
    """What this machine can do, measured between the steps that are timed.

    Attributes:
      matrix_seconds: of products of two float32 matrices, on all cores or on one accelerator.
      matrix_processor_seconds: of all cores together, for the same products.
      copy_seconds: of reading and writing `_COPIED_BYTES` bytes, by the same.
    """

    def __init__(self) -> None:
        self._matrix = jnp.ones((MATRIX_SIZE, MATRIX_SIZE), jnp.float32)
        self._block = jnp.ones(_COPIED_BYTES // 4, jnp.float32)
        # Accelerators multiply float32 matrices in fewer bits unless told.
        self._multiply = jax.jit(lambda a: jnp.matmul(a, a, precision="highest"))
        # Into the same memory: to get fresh pages takes ten times as long as to fill them.
        self._copy = jax.jit(lambda a: a + 1, donate_argnums=0)
        self.matrix_seconds: list[float] = []
        self.matrix_processor_seconds: list[float] = []
        self.copy_seconds: list[float] = []
        for _ in range(2):
            self.measure()
        self.matrix_seconds, self.matrix_processor_seconds, self.copy_seconds = [], [], []

    def measure(self) -> None:
        """Times some products and one copy.

        Behind a step the first product is a fifth slower than the others.
        """
        for _ in range(_PRODUCTS):
            _, seconds, processor_seconds = _timed(lambda: self._multiply(self._matrix))
            self.matrix_seconds.append(seconds)
            self.matrix_processor_seconds.append(processor_seconds)
        self._block, seconds, _ = _timed(lambda: self._copy(self._block))
        self.copy_seconds.append(seconds)

    @property
    def matrix_product(self) -> float:
        """Median seconds of a matrix product."""
        return float(np.median(self.matrix_seconds))

    @property
    def flops_per_second(self) -> float:
        """Rate of the matrix products."""
        return 2.0 * MATRIX_SIZE**3 / self.matrix_product

    @property
    def bytes_per_second(self) -> float:
        """Rate of the copies, what is read and what is written."""
        return 2.0 * _COPIED_BYTES / float(np.median(self.copy_seconds))


class Stepper:
    """A compiled step that can be taken again and again.

    Attributes:
      program: compiled.
      arguments: of the next step.
      compile_seconds: cold, and from the persistent cache.
      seconds: of the steps so far.
      processor_seconds: of all cores together, which other work on the machine lengthens less.
    """

    def __init__(
        self,
        function: Any,
        arguments: Arguments,
        advance: Callable[[Any, Arguments], Arguments] | None = None,
    ) -> None:
        """Compiles.

        Args:
          function: jitted.
          arguments: of the first step.
          advance: from the result of a step and its arguments to the arguments of the next one; the
            same ones again if not given.
        """
        self.arguments, self._advance = arguments, advance
        self.compile_seconds: dict[str, float] = {}
        self.program = self._compile(function, "cold")
        self.program = self._compile(function, "cached")
        self.seconds: list[float] = []
        self.processor_seconds: list[float] = []

    def _compile(self, function: Any, name: str) -> Any:
        jax.clear_caches()
        start = time.perf_counter()
        program = compile_for(function, *self.arguments)
        self.compile_seconds[name] = time.perf_counter() - start
        return program

    def step(self) -> None:
        """Takes one step and times it."""
        result, seconds, processor_seconds = _timed(lambda: self.program(*self.arguments))
        self.seconds.append(seconds)
        self.processor_seconds.append(processor_seconds)
        if self._advance is not None:
            self.arguments = self._advance(result, self.arguments)

    def forget(self) -> None:
        """Forgets the times of the steps so far."""
        self.seconds.clear()
        self.processor_seconds.clear()

    @property
    def median(self) -> float:
        """Median seconds of a step."""
        return float(np.median(self.seconds))


def time_in_turn(steppers: Mapping[str, Stepper], machine: Machine, rounds: int) -> None:
    """Takes a step of each, then measures the machine, round after round.

    The first round is not counted: it fills caches and memory. Every other round goes from the last
    to the first, so that none always comes after the copy that empties the caches.

    Args:
      steppers: what to time.
      machine: measured once in every round.
      rounds: how many count.
    """
    _take_round(list(steppers.values()), machine)
    for stepper in steppers.values():
        stepper.forget()
    for counted in range(rounds):
        _take_round(list(steppers.values())[:: -1 if counted % 2 else 1], machine)


def _take_round(steppers: Sequence[Stepper], machine: Machine) -> None:
    for stepper in steppers:
        stepper.step()
    machine.measure()


def _timed(work: Callable[[], Any]) -> tuple[Any, float, float]:
    """The result, the seconds that it took, and those of all cores together."""
    start, processor_start = time.perf_counter(), time.process_time()
    result = jax.block_until_ready(work())
    return result, time.perf_counter() - start, time.process_time() - processor_start

"""Compiles a jitted function once per shape of its batch, and says what that cost."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable
from typing import Any

import jax

MIB = 2**20

# Of several threads, none may find the collector at rest because of another one, and leave it so.
_tracing = threading.RLock()


class CompiledPerShape:
    """A jitted function whose compilations are counted and timed.

    A shape that was not seen before is compiled before it runs, so that a step never hides a
    compilation and a run can say how much memory a step needs before it takes one.

    Attributes:
      seconds: time spent on compilations so far.
      count: how many there were.
    """

    def __init__(self, function: Any, name: str, say: Callable[[str], None]) -> None:
        """Wraps a function.

        Args:
          function: what `jax.jit` returned; the shapes of its last argument vary.
          name: what to call it in messages.
          say: prints a line.
        """
        self._function, self._name, self._say = function, name, say
        self._programs: dict[tuple, Any] = {}
        self.seconds = 0.0

    @property
    def count(self) -> int:
        """Number of compilations so far."""
        return len(self._programs)

    def __call__(self, *arguments: Any) -> Any:
        """Runs the function, compiled first if the shape of its last argument is new."""
        shape = tuple((leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(arguments[-1]))
        if shape not in self._programs:
            self._programs[shape] = self._compile(arguments)
        result = self._programs[shape](*arguments)
        if must_run_alone():
            jax.block_until_ready(result)
        return result

    def _compile(self, arguments: tuple[Any, ...]) -> Any:
        self._say(f"compiling {self._name} ...")
        start = time.perf_counter()
        program = compile_for(self._function, *arguments)
        seconds = time.perf_counter() - start
        self.seconds += seconds
        self._say(f"compiled {self._name} in {seconds:.1f} s{_memory_note(program)}")
        return program


def compile_for(function: Any, *arguments: Any) -> Any:
    """Compiles what `jax.jit` returned for the shapes of these arguments.

    The garbage collector rests while the function is traced: nearly everything that tracing makes
    stays, and going through it again and again takes a third of the time.
    """
    with _tracing:
        was_enabled = gc.isenabled()
        gc.disable()
        try:
            lowered = function.lower(*arguments)
        finally:
            if was_enabled:
                gc.enable()
    return lowered.compile()


def must_run_alone() -> bool:
    """Whether the next program may only be queued when this one has finished.

    Virtual CPU devices wait for each other on the threads that do the work; with several programs
    in the queue all threads can end up waiting, and XLA then aborts the process. On accelerators
    the queue is what keeps the devices busy.
    """
    return jax.default_backend() == "cpu" and jax.device_count() > 1


def _memory_note(program: Any) -> str:
    analysis = program.memory_analysis()  # None on backends that cannot tell
    if analysis is None:
        return ""
    needed = analysis.temp_size_in_bytes + analysis.argument_size_in_bytes
    return f"; it needs {needed / MIB:,.0f} MiB on each device"

"""Compiles a training step ahead of time; that it does not fit is a result, not a failure."""

from __future__ import annotations

import dataclasses
import re
import time
from typing import Any

import jax

from experiments.tpu.abstract_step import AbstractStep

_UNITS = {"": 1, "B": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
_USED = re.compile(r"Used ([\d.]+)([KMGT]?)B? of ([\d.]+)([KMGT]?)B? hbm")
# The least that XLA can be asked to spend on making a program fast; 0 is its default.
_LEAST_EFFORT = -1.0
_ONE_TOO_LARGE = re.compile(r"Allocation \(size=(\d+)\) would exceed memory \(size=(\d+)\)")


@dataclasses.dataclass(frozen=True)
class Memory:
    """What a program takes of the memory of one chip, in bytes.

    Attributes:
      arguments: state and batch.
      outputs: state and means.
      aliased: outputs that take the place of arguments.
      temporaries: what lives during the step alone.
      program: the code.
    """

    arguments: int
    outputs: int
    aliased: int
    temporaries: int
    program: int

    @property
    def total(self) -> int:
        """All of it, what is aliased counted once."""
        kept = self.arguments + self.outputs - self.aliased
        return kept + self.temporaries + self.program


@dataclasses.dataclass(frozen=True)
class Compiled:
    """A step that fits.

    Attributes:
      memory: what it takes.
      text: the optimized program.
      seconds: that compiling took.
      processor_seconds: of all cores together, which a busy machine does not lengthen.
    """

    memory: Memory
    text: str
    seconds: float
    processor_seconds: float


@dataclasses.dataclass(frozen=True)
class TooLarge:
    """A step that does not fit.

    Attributes:
      needed: bytes of memory that it would take, as far as the compiler says.
      available: bytes that there are.
      seconds: that it took to find out.
    """

    needed: int
    available: int
    seconds: float


def compile_step(step: AbstractStep, quick: bool = False) -> Compiled | TooLarge:
    """Compiles a step for the chips that its arguments lie on.

    Args:
      step: what to compile.
      quick: whether the compiler may stop early: the program is a valid one that computes the
        same, but takes more memory and moves more.

    Raises:
      jax.errors.JaxRuntimeError: XLA cannot compile it, for another reason than its size.
    """
    start, processor_start = time.perf_counter(), time.process_time()
    lowered = step.trace().lower()
    try:
        program = lowered.compile(
            {"exec_time_optimization_effort": _LEAST_EFFORT} if quick else None
        )
    except jax.errors.JaxRuntimeError as error:
        needed = read_exhaustion(str(error))
        if needed is None:
            raise
        return TooLarge(*needed, time.perf_counter() - start)
    seconds = time.perf_counter() - start
    processor_seconds = time.process_time() - processor_start
    return Compiled(_memory_of(program), program.as_text(), seconds, processor_seconds)


def read_exhaustion(message: str) -> tuple[int, int] | None:
    """Bytes needed and available, from an error of the compiler; None if it is about other things.

    Args:
      message: of the error.
    """
    if "RESOURCE_EXHAUSTED" not in message:
        return None
    if used := _USED.search(message):
        needed, unit, available, available_unit = used.groups()
        return (
            int(float(needed) * _UNITS[unit]),
            int(float(available) * _UNITS[available_unit]),
        )
    if one := _ONE_TOO_LARGE.search(message):
        return int(one[1]), int(one[2])
    return None


def _memory_of(program: Any) -> Memory:
    analysis = program.memory_analysis()
    return Memory(
        arguments=analysis.argument_size_in_bytes,
        outputs=analysis.output_size_in_bytes,
        aliased=analysis.alias_size_in_bytes,
        temporaries=analysis.temp_size_in_bytes,
        program=analysis.generated_code_size_in_bytes,
    )

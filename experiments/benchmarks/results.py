"""Times cases in turn, and gathers what was measured."""

from __future__ import annotations

import os
import platform
import resource
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from equiformer_jax.training.compiled import MIB
from experiments.benchmarks.arithmetic import count_matrix_flops
from experiments.benchmarks.cases import Case
from experiments.benchmarks.programs import Program, build
from experiments.benchmarks.timing import Machine, Stepper, time_in_turn
from experiments.huge_pages import VARIABLE
from experiments.tpu.costs import Costs, count_costs
from experiments.tpu.hlo import parse_program

MACHINE = "machine"

Numbers = dict[str, Any]


def run_cases(cases: Mapping[str, Case], steps: int) -> dict[str, Numbers]:
    """Compiles the cases and times them in turn.

    Args:
      cases: what to time, by name.
      steps: how many steps of each to time.

    Returns:
      `machine`, what it is and can do, and for each case its numbers, times in seconds.

    Raises:
      ValueError: the model of a case cannot be given its structures; names the case.
    """
    programs = {name: _build(name, case) for name, case in cases.items()}
    flops = {name: count_matrix_flops(p.function, *p.arguments) for name, p in programs.items()}
    steppers = {name: Stepper(p.function, p.arguments, p.advance) for name, p in programs.items()}
    peaks = {name: _peak_in_use(stepper) for name, stepper in steppers.items()}
    machine = Machine()
    time_in_turn(steppers, machine, steps)
    first = next(iter(steppers.values()))
    results = {MACHINE: _describe(machine)}
    for name, stepper in steppers.items():
        program = programs[name]
        results[name] = (
            _times(cases[name], program, stepper, machine)
            | _over(stepper, first)
            | _arithmetic_and_traffic(name, program, stepper, machine, flops[name])
            | memory_numbers(stepper.program.memory_analysis(), program.devices, on_cpu())
            | peaks[name]
        )
    return results


def on_cpu() -> bool:
    """Whether the devices are virtual ones, which share the cores and the memory of a machine."""
    return jax.default_backend() == "cpu"


def memory_numbers(analysis: Any, devices: int, shared: bool) -> Numbers:
    """What a program needs: its arguments, results and all between.

    Args:
      analysis: what XLA says of one device; `None` where it says nothing.
      devices: that run the program.
      shared: whether they have one memory together; `peak_mib` is then that of all of them, else of
        one.
    """
    if analysis is None:
        return {}
    temporary, argument, output, aliased = (
        getattr(analysis, f"{kind}_size_in_bytes") / MIB
        for kind in ("temp", "argument", "output", "alias")
    )
    return {
        "peak_mib": (devices if shared else 1) * (temporary + argument + output - aliased),
        "temporary_mib_per_device": temporary,
        "argument_mib_per_device": argument,
        "output_mib_per_device": output,
        "aliased_mib_per_device": aliased,
    }


def share_of_rate(amount: float, seconds: float, rate: float, devices: int, shared: bool) -> float:
    """How close a program is to what its devices can do.

    Args:
      amount: of all devices together.
      seconds: that it takes.
      rate: of one accelerator, or of the whole machine whose virtual devices are shared.
      devices: that run the program.
      shared: whether they share the machine that the rate is of.
    """
    return amount / seconds / (rate if shared else rate * devices)


def _build(name: str, case: Case) -> Program:
    try:
        return build(case)
    except ValueError as error:
        raise ValueError(f"case={name!r}: {error}") from error


def _peak_in_use(stepper: Stepper) -> Numbers:
    """Takes a first step, where an accelerator then says how much it has needed so far.

    What cases before have needed, and what is kept for others, is counted, too.
    """
    device = jax.local_devices()[0]
    if device.memory_stats() is None:
        return {}
    stepper.step()
    peak = (device.memory_stats() or {}).get("peak_bytes_in_use")
    return {} if peak is None else {"peak_in_use_mib_per_device": peak / MIB}


def _describe(machine: Machine) -> Numbers:
    return {
        "device": f"{jax.device_count()} x {jax.devices()[0].device_kind}, {platform.machine()}",
        "platform": jax.default_backend(),
        "devices": jax.device_count(),
        "jax": jax.__version__,
        "glibc_tunables": os.environ.get(VARIABLE, ""),
        "matrix_product_seconds": machine.matrix_product,
        "matrix_product_processor_seconds": _median(machine.matrix_processor_seconds),
        "matrix_gflops_per_second": machine.flops_per_second / 1e9,
        "copy_gigabytes_per_second": machine.bytes_per_second / 1e9,
        "peak_process_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def _times(case: Case, program: Program, stepper: Stepper, machine: Machine) -> Numbers:
    step, processor = stepper.median, _median(stepper.processor_seconds)
    return {
        "kind": case.kind,
        "preset": case.preset,
        "batch_size": case.batch_size,
        "devices": program.devices,
        "step_over_matrix_product": step / machine.matrix_product,
        "processor_step_over_matrix_product": processor / _median(machine.matrix_processor_seconds),
        "official_over_matrix_product": case.official,
        "step_seconds": step,
        "step_seconds_range": _range(stepper.seconds),
        "processor_step_seconds": processor,
        "compile_seconds_cold": stepper.compile_seconds["cold"],
        "compile_seconds_cached": stepper.compile_seconds["cached"],
        "structures_per_second": case.batch_size / step,
        "atoms_per_second": program.atoms / step,
        "atoms": program.atoms,
        "edges": program.edges,
    }


def _over(stepper: Stepper, first: Stepper) -> Numbers:
    """Ratios to the first case: of medians, and round by round."""
    rounds = [a / b for a, b in zip(stepper.seconds, first.seconds, strict=True)]
    return {
        "over_first_case": stepper.median / first.median,
        "processor_over_first_case": _median(stepper.processor_seconds)
        / _median(first.processor_seconds),
        "rounds_over_first_case": _median(rounds),
        "rounds_over_first_case_range": _range(rounds),
    }


def _arithmetic_and_traffic(
    name: str, program: Program, stepper: Stepper, machine: Machine, flops: float
) -> Numbers:
    def share(amount: float, rate: float) -> float:
        return share_of_rate(amount, stepper.median, rate, program.devices, on_cpu())

    numbers = {
        "matrix_gflop": flops / 1e9,
        "share_of_matrix_rate": share(flops, machine.flops_per_second),
    }
    if costs := _costs(name, stepper.program, program.devices):
        moved = program.devices * costs.memory_bytes
        numbers |= {
            "compiled_matrix_gflop_per_device": costs.product_flops / 1e9,
            "compiled_elementwise_gflop_per_device": costs.elementwise_flops / 1e9,
            "gigabytes_per_device": costs.memory_bytes / 1e9,
            "share_of_copy_rate": share(moved, machine.bytes_per_second),
            "sent_bytes_per_device": costs.interconnect_bytes,
            "kernels": costs.kernels,
        }
    return numbers


def _costs(name: str, compiled: Any, devices: int) -> Costs | None:
    """What the optimized program computes, moves and sends, loops counted as often as they run."""
    try:
        return count_costs(parse_program(compiled.as_text()), devices)
    except ValueError as error:  # a loop whose end depends on data
        print(f"{name}: traffic is not counted: {error}")
        return None


def _median(values: list[float]) -> float:
    return float(np.median(values))


def _range(values: list[float]) -> list[float]:
    return [min(values), max(values)]

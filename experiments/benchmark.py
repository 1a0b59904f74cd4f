"""Times training steps and force evaluations of the published models on this machine.

    python -m experiments.benchmark --case=md17_l2_aspirin --output=result.json
    python -m experiments.benchmark --case=md17_l2_aspirin --case=md17_l2_linear_aspirin
    python -m experiments.benchmark --case=md17_l2_aspirin --case=md17_l2_aspirin,remat=True

Steps are timed in turn with a float32 product of 2048 x 2048 matrices and a copy of 256 MiB; the
ratio of the medians is what to quote: machines differ, and are noisy. Several cases are timed in
turn, too, and compared with the first; fields of the model are changed behind the name of a case.
On a machine with other work on it, quote the ratio of processor times. Compilation is timed cold
and from the persistent cache.
"""

from __future__ import annotations

import json
import math
import platform
import resource
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from absl import app, flags

from experiments.benchmarks.arithmetic import count_matrix_flops
from experiments.benchmarks.cases import CASES, TRAIN, Case, find_case
from experiments.benchmarks.programs import Program, build
from experiments.benchmarks.timing import Machine, Stepper, time_in_turn
from experiments.common import program, run
from experiments.devices import use_all_cores
from experiments.tpu.costs import Costs, count_costs
from experiments.tpu.hlo import parse_program

_MIB = 2**20

_CASE = flags.DEFINE_multi_string(
    "case", ["md17_l2_aspirin"], f"NAME[,FIELD=VALUE...] to time; names: {', '.join(sorted(CASES))}"
)
_STEPS = flags.DEFINE_integer("steps", 7, "Timed steps, after one that is not counted.", 1)
_OUTPUT = flags.DEFINE_string("output", None, "JSON file to write.")


@program
def main(arguments: Sequence[str]) -> None:
    """Times the cases, prints a table and writes the numbers."""
    if len(arguments) > 1:
        raise app.UsageError(f"unknown arguments {arguments[1:]}")
    chosen = {text: find_case(text) for text in _CASE.value}
    use_all_cores(math.gcd(*(case.batch_size for case in chosen.values())))
    with tempfile.TemporaryDirectory() as cache:
        jax.config.update("jax_compilation_cache_dir", cache)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        results = run_cases(chosen, _STEPS.value)
    print_table(results)
    if _OUTPUT.value:
        with open(_OUTPUT.value, "w", encoding="utf-8") as file:
            json.dump(results, file, indent=2)


def run_cases(cases: Mapping[str, Case], steps: int) -> dict[str, Any]:
    """Compiles the cases and times them in turn.

    Args:
      cases: what to time, by name.
      steps: how many steps of each to time.

    Returns:
      `machine`, what it is and can do, and for each case its numbers, times in seconds.
    """
    programs = {name: build(case) for name, case in cases.items()}
    flops = {name: count_matrix_flops(p.function, *p.arguments) for name, p in programs.items()}
    steppers = {
        name: Stepper(p.function, p.arguments, cases[name].kind == TRAIN)
        for name, p in programs.items()
    }
    machine = Machine()
    time_in_turn(steppers, machine, steps)
    first = next(iter(steppers.values()))
    results: dict[str, Any] = {"machine": _describe(machine)}
    for name, stepper in steppers.items():
        numbers = _numbers(cases[name], programs[name], stepper, machine, flops[name])
        results[name] = {**numbers, "over_first_case": stepper.median / first.median}
    return results


def _describe(machine: Machine) -> dict[str, Any]:
    return {
        "device": f"{jax.device_count()} x {jax.devices()[0].device_kind}, {platform.machine()}",
        "jax": jax.__version__,
        "matrix_product_seconds": machine.matrix_product,
        "matrix_product_processor_seconds": float(np.median(machine.matrix_processor_seconds)),
        "matrix_gflops_per_second": machine.flops_per_second / 1e9,
        "copy_gigabytes_per_second": machine.bytes_per_second / 1e9,
        "peak_process_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def _numbers(
    case: Case, program: Program, stepper: Stepper, machine: Machine, flops: float
) -> dict[str, Any]:
    step, memory = stepper.median, stepper.program.memory_analysis()
    numbers = {
        "step_over_matrix_product": step / machine.matrix_product,
        "processor_step_over_matrix_product": float(
            np.median(stepper.processor_seconds) / np.median(machine.matrix_processor_seconds)
        ),
        "official_over_matrix_product": case.official,
        "step_seconds": step,
        "step_seconds_range": [min(stepper.seconds), max(stepper.seconds)],
        "compile_seconds_cold": stepper.compile_seconds["cold"],
        "compile_seconds_cached": stepper.compile_seconds["cached"],
        "structures_per_second": case.batch_size / step,
        "atoms_per_second": program.atoms / step,
        "edges": program.edges,
        "matrix_gflop": flops / 1e9,
        "share_of_matrix_rate": flops / step / machine.flops_per_second,
    }
    if costs := _costs(stepper.program):
        numbers["gigabytes_per_device"] = costs.memory_bytes / 1e9
        numbers["share_of_copy_rate"] = (
            jax.device_count() * costs.memory_bytes / step / machine.bytes_per_second
        )
        numbers["sent_bytes_per_device"] = costs.interconnect_bytes
        numbers["kernels"] = costs.kernels
    if memory is not None:
        numbers["temporary_mib_per_device"] = memory.temp_size_in_bytes / _MIB
        numbers["argument_mib_per_device"] = memory.argument_size_in_bytes / _MIB
    return numbers


def _costs(compiled: Any) -> Costs | None:
    """What the optimized program moves and sends, loops counted as often as they run."""
    try:
        return count_costs(parse_program(compiled.as_text()), jax.device_count())
    except ValueError as error:  # a loop whose end depends on data
        print(f"traffic is not counted: {error}")
        return None


def print_table(results: Mapping[str, Any]) -> None:
    """Prints the machine, then one line for each case."""
    machine = results["machine"]
    print(
        f"{machine['device']}; a matrix product takes {machine['matrix_product_seconds']:.3f} s "
        f"({machine['matrix_gflops_per_second']:.0f} GFLOP/s), copies run at "
        f"{machine['copy_gigabytes_per_second']:.1f} GB/s"
    )
    columns = (
        "products",
        "of CPU",
        "official",
        "step s",
        "first",
        "cold s",
        "cached s",
        "MiB",
        "of matmul",
        "of copy",
    )
    width = max(map(len, results)) + 2
    print(" " * width + "".join(f"{title:>10}" for title in columns))
    for name, numbers in results.items():
        if name != "machine":
            print(name.ljust(width) + "".join(f"{cell:>10}" for cell in _cells(numbers)))


def _cells(numbers: Mapping[str, Any]) -> list[str]:
    official = numbers["official_over_matrix_product"]
    return [
        f"{numbers['step_over_matrix_product']:.2f}",
        f"{numbers['processor_step_over_matrix_product']:.2f}",
        "" if official is None else f"{official:g}",
        f"{numbers['step_seconds']:.3f}",
        f"{numbers['over_first_case']:.2f}",
        f"{numbers['compile_seconds_cold']:.1f}",
        f"{numbers['compile_seconds_cached']:.1f}",
        f"{numbers.get('temporary_mib_per_device', math.nan):.0f}",
        f"{numbers['share_of_matrix_rate']:.0%}",
        f"{numbers.get('share_of_copy_rate', math.nan):.0%}",
    ]


if __name__ == "__main__":
    run(main)

"""Tables of what `results.run_cases` has measured, for a terminal of 120 columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from equiformer_jax.inference import markdown
from experiments.benchmarks.cases import DYNAMICS
from experiments.benchmarks.results import MACHINE, Numbers

_LONGEST_NAME = 22
_IN_USE_KEY = "peak_in_use_mib_per_device"

TIMES = (
    *("case", "median s", "range s", "struct./s", "atoms/s"),
    *("products", "of CPU", "official", "/ first"),
)
COSTS = (
    *("case", "GFLOP", "compiled", "GB moved", "peak MiB", "cold s", "cached s"),
    *("of matmul", "of copy"),
)
IN_USE = "in use MiB"  # the last column of costs, where an accelerator says it
RATIOS = ("case", "/ first", "by CPU time", "by rounds", "range")


def to_text(results: Mapping[str, Numbers]) -> str:
    """The machine, then times, costs and, of several cases, ratios; a line for each case.

    Args:
      results: of `run_cases`.
    """
    machine = results[MACHINE]
    cases = {name: numbers for name, numbers in results.items() if name != MACHINE}
    labels, legend = _labels(list(cases))
    times = [[label, *_times(n)] for label, n in zip(labels, cases.values(), strict=True)]
    costs = [[label, *_costs(n)] for label, n in zip(labels, cases.values(), strict=True)]
    if says_in_use := any(_IN_USE_KEY in numbers for numbers in cases.values()):
        for row, numbers in zip(costs, cases.values(), strict=True):
            row.append(_formatted(numbers.get(_IN_USE_KEY), ",.0f"))
    parts = [
        "\n".join([*_about(machine, cases), *legend]),
        _table(TIMES, times),
        "median and range of a step; products: over one of the machine, of CPU: both in processor\n"
        "time; official: the PyTorch release on two cores",
        _table((*COSTS, IN_USE) if says_in_use else COSTS, costs),
        "GFLOP of matrix products as traced, of all arithmetic as compiled; these and GB on all\n"
        f"devices; peak: memory of the program {_whose(machine)}; cold, cached: compilation",
    ]
    if len(cases) > 1:
        ratios = [[label, *_ratios(n)] for label, n in zip(labels, cases.values(), strict=True)]
        parts += [_table(RATIOS, ratios), "ratios to the first case, of medians and round by round"]
    return "\n\n".join(parts)


def _about(machine: Numbers, cases: Mapping[str, Numbers]) -> list[str]:
    lines = [
        f"{machine['device']}; a matrix product takes {machine['matrix_product_seconds']:.3g} s "
        f"({machine['matrix_gflops_per_second']:.0f} GFLOP/s), copies run at "
        f"{machine['copy_gigabytes_per_second']:.1f} GB/s",
        f"{machine['devices']} device(s), chosen for all cases together; "
        f"the process needed {machine['peak_process_mib']:,.0f} MiB at most",
    ]
    if any(numbers["kind"] == DYNAMICS for numbers in cases.values()):
        lines.append(
            "dynamics: the program of one force evaluation, positions on one device already;\n"
            "atoms move, and the neighbor list is made anew in one step of five"
        )
    return lines


def _whose(machine: Numbers) -> str:
    return "on all devices" if machine["platform"] == "cpu" else "on each device"


def _labels(names: Sequence[str]) -> tuple[list[str], list[str]]:
    """What stands for each case in the tables, and lines that say so where a name is long."""
    if max(map(len, names)) <= _LONGEST_NAME:
        return list(names), []
    labels = [f"({number})" for number in range(1, len(names) + 1)]
    return labels, [f"{label} {name}" for label, name in zip(labels, names, strict=True)]


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return markdown.table(header, rows, numbers=range(1, len(header)))


def _times(numbers: Numbers) -> list[str]:
    low, high = numbers["step_seconds_range"]
    return [
        f"{numbers['step_seconds']:.3g}",
        f"{low:.3g}-{high:.3g}",
        f"{numbers['structures_per_second']:,.1f}",
        f"{numbers['atoms_per_second']:,.0f}",
        f"{numbers['step_over_matrix_product']:.2f}",
        f"{numbers['processor_step_over_matrix_product']:.2f}",
        _formatted(numbers["official_over_matrix_product"], "g"),
        f"{numbers['over_first_case']:.2f}",
    ]


def _costs(numbers: Numbers) -> list[str]:
    devices = numbers["devices"]
    compiled, moved = None, numbers.get("gigabytes_per_device")
    if moved is not None:
        moved *= devices
        compiled = devices * (
            numbers["compiled_matrix_gflop_per_device"]
            + numbers["compiled_elementwise_gflop_per_device"]
        )
    return [
        f"{numbers['matrix_gflop']:.4g}",
        _formatted(compiled, ".4g"),
        _formatted(moved, ".3g"),
        _formatted(numbers.get("peak_mib"), ",.0f"),
        f"{numbers['compile_seconds_cold']:.1f}",
        f"{numbers['compile_seconds_cached']:.1f}",
        f"{numbers['share_of_matrix_rate']:.0%}",
        _formatted(numbers.get("share_of_copy_rate"), ".0%"),
    ]


def _ratios(numbers: Numbers) -> list[str]:
    low, high = numbers["rounds_over_first_case_range"]
    return [
        f"{numbers['over_first_case']:.3f}",
        f"{numbers['processor_over_first_case']:.3f}",
        f"{numbers['rounds_over_first_case']:.3f}",
        f"{low:.3f}-{high:.3f}",
    ]


def _formatted(value: Any, how: str) -> str:
    """Empty where nothing is known."""
    return "" if value is None else format(value, how)

"""Times the way of the data on the host, from structures to batches (`data_rates`).

python -m experiments.benchmark_data --output=result.json
"""

from __future__ import annotations

import json
import platform
from collections.abc import Sequence
from typing import Any

from absl import app, flags

from experiments.common import program, run
from experiments.data_rates import CASES, run_case

_CASES = flags.DEFINE_multi_enum("case", sorted(CASES), sorted(CASES), "What to time.")
_COUNT = flags.DEFINE_integer(
    "count", None, "Structures of each case; its own number if not given."
)
_OUTPUT = flags.DEFINE_string("output", None, "JSON file to write.")


@program
def main(arguments: Sequence[str]) -> None:
    """Times the cases and prints a table of each."""
    if len(arguments) > 1:
        raise app.UsageError(f"unknown arguments {arguments[1:]}")
    results = {name: run_case(CASES[name], _COUNT.value) for name in _CASES.value}
    for name, result in results.items():
        print_table(name, result)
    if _OUTPUT.value:
        machine = {"machine": platform.machine(), "python": platform.python_version()}
        with open(_OUTPUT.value, "w", encoding="utf-8") as file:
            json.dump({**machine, "cases": results}, file, indent=2)


def print_table(name: str, result: dict[str, Any]) -> None:
    """Prints the rates of a case."""
    print(
        f"{name}: {result['structures']:,} structures of {result['mean_atoms']:.0f} atoms and "
        f"{result['mean_edges']:.0f} edges, {result['bytes_per_graph']:,.0f} bytes each"
    )
    for stage, rate in result["rates"].items():
        print(f"  {stage:18}{rate:12,.0f} structures/s/core")
    share = result["share_of_first_epoch"]
    print(f"  most of the first epoch: {result['slowest_stage']} ({share:.0%})")


if __name__ == "__main__":
    run(main)

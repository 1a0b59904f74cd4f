"""Times training steps and force evaluations of the published models on this machine.

    python -m experiments.benchmark --case=md17_l2_aspirin --output=result.json
    python -m experiments.benchmark --case=md17_l2_aspirin --case=md17_l2_linear_aspirin
    python -m experiments.benchmark --case=md17_l2_aspirin --case=md17_l2_aspirin,remat=True

Steps are timed in turn with a float32 product of 2048 x 2048 matrices and a copy of 256 MiB; the
ratio of the medians is what to quote: machines differ, and are noisy. Several cases are timed in
turn, too, and compared with the first. A case is changed behind its name: fields of the model,
`preset`, `kind` (train, forces, forward, dynamics), `batch_size`, `atoms`. On a machine with other
work on it, quote the ratio of processor times. Compilation is timed cold and from the persistent
cache. Without an accelerator the machine is divided into virtual devices, one number of them for
all cases of a run.
"""

from __future__ import annotations

import json
import pathlib
import tempfile
from collections.abc import Sequence

import jax
from absl import app, flags

from experiments.benchmarks.cases import CASES, find_case
from experiments.benchmarks.report import to_text
from experiments.benchmarks.results import run_cases
from experiments.common import program, run
from experiments.devices import use_all_cores

_CASE = flags.DEFINE_multi_string(
    "case", ["md17_l2_aspirin"], f"NAME[,FIELD=VALUE...] to time; names: {', '.join(sorted(CASES))}"
)
_STEPS = flags.DEFINE_integer("steps", 7, "Timed steps, after one that is not counted.", 1)
_OUTPUT = flags.DEFINE_string("output", None, "JSON file to write.")


@program
def main(arguments: Sequence[str]) -> None:
    """Times the cases, prints tables and writes the numbers."""
    if len(arguments) > 1:
        raise app.UsageError(f"unknown arguments {arguments[1:]}")
    chosen = {text: find_case(text) for text in _CASE.value}
    use_all_cores(min(case.batch_size for case in chosen.values()))
    with tempfile.TemporaryDirectory() as cache:
        jax.config.update("jax_compilation_cache_dir", cache)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        results = run_cases(chosen, _STEPS.value)
    print(to_text(results))
    if _OUTPUT.value:
        pathlib.Path(_OUTPUT.value).write_text(json.dumps(results, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    run(main)

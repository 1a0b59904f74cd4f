r"""Compiles the training step of a configuration for TPUs, with no TPU present.

    python -m experiments.compile_tpu --topology=v5e:2x4 \
        --config=experiments/configs/md17.py:aspirin --output=report.json

The whole step is compiled: loss, forces where the configuration has them, gradient, optimizer and
the collectives between the chips. No data are read: shapes come from the batch size of the
configuration and from typical sizes of its structures. Says how much memory, arithmetic, traffic
and communication a step costs each chip, the largest batch that fits, and what published peaks
bound its time by; how fast it runs only a TPU can tell. docs/tpu.md says how to read it.

Ends with status 1 if the program has float64 numbers, gathers arrays that nobody asked for, or
talks to the host. Needs libtpu.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Sequence
from typing import Any

import jax
from absl import app, flags
from ml_collections import config_dict, config_flags

from experiments.common import program

_CONFIG = config_flags.DEFINE_config_file("config", None, "Python file with a get_config function.")
_TOPOLOGY = flags.DEFINE_string(
    "topology", None, "Chip and shape, such as v5e:2x4, v5p:2x2x1, v6e:16x16.", required=True
)
_OUTPUT = flags.DEFINE_string("output", None, "JSON file to write.")
_BATCH_SIZE = flags.DEFINE_integer(
    "batch_size", None, "Structures in a step, over all chips; else that of the configuration.", 1
)
_ATOMS = flags.DEFINE_integer("atoms", None, "Of a structure; else typical of its data set.", 1)
_EDGES = flags.DEFINE_integer("edges", None, "Of a structure; else typical of its data set.", 1)
_LARGEST = flags.DEFINE_bool(
    "largest_batch", True, "Look for the largest batch, which compiles the step two to four times."
)
_QUICK = flags.DEFINE_bool(
    "quick", False, "Let the compiler stop early: two to four times faster, a worse program."
)
_DENSE = flags.DEFINE_bool(
    "dense", False, "Compile messages in the textbook formulation, to compare with."
)


@program
def main(arguments: Sequence[str]) -> None:
    """Compiles, prints, writes."""
    if len(arguments) > 1:
        raise app.UsageError(f"unknown arguments {arguments[1:]}")
    # Nothing runs here, and nothing may look for a TPU.
    jax.config.update("jax_platforms", "cpu")
    # Programs for chips that are not here can be written to the cache, but not read back.
    jax.config.update("jax_enable_compilation_cache", False)
    from experiments.benchmarks.dense_formulation import dense_formulation
    from experiments.tpu.examine import examine, make_task, search_largest
    from experiments.tpu.report import largest_to_text, to_text

    config: config_dict.ConfigDict = _CONFIG.value
    if _BATCH_SIZE.value is not None:
        config.training.batch_size = _BATCH_SIZE.value
    task = make_task(config, _TOPOLOGY.value, _say, _ATOMS.value, _EDGES.value, _QUICK.value)
    flag = flags.FLAGS["config"]
    name = config_flags.get_config_filename(flag)
    with dense_formulation() if _DENSE.value else contextlib.nullcontext():
        report = examine(task, name, config_flags.get_override_values(flag))
        report["dense"] = _DENSE.value
        _say(to_text(report))
        _write(report)
        if _LARGEST.value:
            report |= search_largest(task, report)
            _say(largest_to_text(report))
            _write(report)
    if report.get("problems"):
        sys.exit("the step must not be run like this:\n" + "\n".join(report["problems"]))


def _say(text: str) -> None:
    print(text, flush=True)


def _write(report: dict[str, Any]) -> None:
    if _OUTPUT.value:
        with open(_OUTPUT.value, "w", encoding="utf-8") as file:
            json.dump(report, file, indent=2)
            file.write("\n")


if __name__ == "__main__":
    flags.mark_flag_as_required("config")
    app.run(main)

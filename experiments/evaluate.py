"""Evaluates the weights of a run on one of its splits and writes a report.

    python -m experiments.evaluate --workdir=runs/quickstart --split=test
    python -m experiments.evaluate --workdir=runs/oc20 --option=test=val_ood_ads --name=val_ood_ads

The second evaluates data that the run does not know. With `--output`, the predictions for every
structure are written beside the references, as extended xyz or npz: all that the run has learned,
forces, stress or relaxed positions too, and the spread of an ensemble.
"""

from __future__ import annotations

import pathlib
from collections.abc import Sequence

from absl import app, flags

from equiformer_jax.data.processes import decided_by_first, is_first_process
from equiformer_jax.inference.predictions import write_evaluation
from equiformer_jax.inference.report import report_run
from equiformer_jax.training.mesh_settings import MeshSettings
from equiformer_jax.training.trainer import evaluate
from equiformer_jax.training.workdir import load_config
from experiments.common import checked_output, print_evaluation, program, run
from experiments.hosts import joined_hosts

_WORKDIR = flags.DEFINE_string("workdir", None, "Directory of a run.", required=True)
_SPLIT = flags.DEFINE_enum("split", "test", ["train", "validation", "test"], "What to evaluate.")
_CHECKPOINT = flags.DEFINE_string(
    "checkpoint", "latest", "Which weights: latest, best (on the validation split), or a step."
)
_AVERAGE = flags.DEFINE_bool("average", False, "Take the moving average of the weights.")
_OPTIONS = flags.DEFINE_multi_string(
    "option", [], "Evaluate other data: NAME=VALUE takes the place of config.data.options.NAME."
)
_NAME = flags.DEFINE_string("name", None, "What to call the other data in files and reports.")
_OUTPUT = flags.DEFINE_string("output", None, "Predictions: a file named .extxyz, .xyz or .npz.")


@program
def main(arguments: Sequence[str]) -> None:
    """Evaluates, reports, writes."""
    if len(arguments) > 1:
        raise app.UsageError(f"unknown arguments {arguments[1:]}")
    config = load_config(_WORKDIR.value)
    mesh = MeshSettings.from_settings(config.get("mesh"))
    with joined_hosts(config.training.evaluation_batch_size, mesh.edge_parts):
        output = decided_by_first(_checked_output)
        evaluation = evaluate(
            _WORKDIR.value,
            _SPLIT.value,
            checkpoint=_CHECKPOINT.value,
            average=_AVERAGE.value,
            options=_options(),
            name=_NAME.value,
        )
        if is_first_process():
            files = report_run(_WORKDIR.value, evaluation)
            if output is not None:
                files.append(write_evaluation(output, evaluation, config.objective))
            print_evaluation(evaluation, files)


def _checked_output() -> pathlib.Path | None:
    return None if _OUTPUT.value is None else checked_output(_OUTPUT.value)


def _options() -> dict[str, str]:
    """What `--option` says, by name."""
    pairs = [text.partition("=") for text in _OPTIONS.value]
    wrong = [name for name, equals, _ in pairs if not equals]
    if wrong:
        raise ValueError(f"--option={wrong[0]}; expected NAME=VALUE")
    return {name: value for name, _, value in pairs}


if __name__ == "__main__":
    run(main)

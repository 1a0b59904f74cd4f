"""Trains a configuration, evaluates it on the test split and writes a report.

    python -m experiments.train --config=experiments/configs/quickstart.py --workdir=runs/quickstart

Any field of the configuration can be overridden, as in `--config.training.num_epochs=10`. Run again
with the same workdir, it goes on where it was stopped. On several hosts, or as several processes,
`hosts` says how.
"""

from __future__ import annotations

from collections.abc import Sequence

from absl import app, flags
from ml_collections import config_flags

from equiformer_jax.data.processes import is_first_process
from equiformer_jax.inference.report import report_run
from equiformer_jax.training.early_checks import check_configuration
from equiformer_jax.training.mesh_settings import MeshSettings
from equiformer_jax.training.trainer import train
from experiments.common import print_evaluation, program, run
from experiments.hosts import joined_hosts

_CONFIG = config_flags.DEFINE_config_file("config", None, "Python file with a get_config function.")
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "Directory of the run; an existing run goes on.", required=True
)
_DRY_RUN = flags.DEFINE_bool(
    "dry_run", False, "Check the flags and the configuration, touch nothing, and end."
)


@program
def main(arguments: Sequence[str]) -> None:
    """Trains, evaluates, reports."""
    if len(arguments) > 1:
        raise app.UsageError(f"unknown arguments {arguments[1:]}")
    config, workdir = _CONFIG.value, _WORKDIR.value
    if _DRY_RUN.value:
        check_configuration(config)
        print("the flags and the configuration are understood")
        return
    mesh = MeshSettings.from_settings(config.get("mesh"))
    with joined_hosts(config.training.batch_size, mesh.edge_parts):
        evaluation = train(config, workdir)
        if is_first_process():
            print_evaluation(evaluation, report_run(workdir, evaluation))


if __name__ == "__main__":
    flags.mark_flag_as_required("config")
    run(main)

"""Evaluates the weights of a run on one of its splits and draws the plots.

python -m experiments.evaluate --workdir=runs/quickstart --split=test
"""

from __future__ import annotations

from collections.abc import Sequence

from absl import app, flags

from equiformer_jax.inference.plots import plot_run
from equiformer_jax.training.trainer import evaluate
from equiformer_jax.training.workdir import load_config
from experiments.common import print_evaluation, program
from experiments.devices import use_all_cores

_WORKDIR = flags.DEFINE_string("workdir", None, "Directory of a run.", required=True)
_SPLIT = flags.DEFINE_enum("split", "test", ["train", "validation", "test"], "What to evaluate.")


@program
def main(arguments: Sequence[str]) -> None:
    """Evaluates, draws."""
    if len(arguments) > 1:
        raise app.UsageError(f"unknown arguments {arguments[1:]}")
    use_all_cores(load_config(_WORKDIR.value).training.evaluation_batch_size)
    evaluation = evaluate(_WORKDIR.value, _SPLIT.value)
    print_evaluation(evaluation, plot_run(_WORKDIR.value, evaluation))


if __name__ == "__main__":
    app.run(main)

"""What the programs share: how they end and what they print last."""

from __future__ import annotations

import functools
import pathlib
import sys
from collections.abc import Callable, Iterable, Sequence

from absl import flags, logging

from equiformer_jax.training.errors import RunError
from equiformer_jax.training.evaluation import Evaluation

Main = Callable[[Sequence[str]], None]


def program(main: Main) -> Main:
    """Wraps the main function of a program.

    A `RunError` ends the program with its message in place of a traceback, and libraries keep quiet
    (`--verbosity=0` lets them speak).
    """

    @functools.wraps(main)
    def wrapped(arguments: Sequence[str]) -> None:
        if not flags.FLAGS["verbosity"].present:
            logging.set_verbosity(logging.WARNING)
        try:
            main(arguments)
        except RunError as error:
            sys.exit(f"{type(error).__name__}: {error}")

    return wrapped


def print_evaluation(evaluation: Evaluation, files: Iterable[pathlib.Path]) -> None:
    """Prints the errors of a split and where the files are."""
    metrics = evaluation.metrics
    count = len(evaluation.reference_energies)
    print(f"{evaluation.split} split, {count:,} structures:")
    print(f"  energy MAE {metrics['energy_mae_mev']:.1f} meV")
    relative = evaluation.force_error_relative_to_zero
    if relative is not None:
        error = metrics["force_mae_mev_per_angstrom"]
        print(f"  force MAE {error:.1f} meV/Å, {relative:.1%} of the error of predicting zero")
    print("written:")
    for file in files:
        print(f"  {file}")

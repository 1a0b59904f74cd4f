"""What the programs share: how they end and what they print last."""

from __future__ import annotations

import functools
import pathlib
import sys
from collections.abc import Callable, Iterable, Sequence

from absl import flags, logging

from equiformer_jax.training.errors import RunError
from equiformer_jax.training.evaluation import Evaluation
from equiformer_jax.training.progress import readable_metric

Main = Callable[[Sequence[str]], None]


# What is wrong with what the user gave: the message says it, and where.
_EXPLAINED = (RunError, ValueError, OSError)


def program(main: Main) -> Main:
    """Wraps the main function of a program.

    Errors that explain themselves end the program with their message in place of a traceback, and
    libraries keep quiet; with `--verbosity=0` or more both are shown.
    """

    @functools.wraps(main)
    def wrapped(arguments: Sequence[str]) -> None:
        wordy = flags.FLAGS["verbosity"].present
        if not wordy:
            logging.set_verbosity(logging.WARNING)
        try:
            main(arguments)
        except _EXPLAINED as error:
            if wordy:
                raise
            sys.exit(f"{type(error).__name__}: {error}")

    return wrapped


def print_evaluation(evaluation: Evaluation, files: Iterable[pathlib.Path]) -> None:
    """Prints the errors of a split and where the files are."""
    count = len(evaluation.reference_energies)
    print(f"{evaluation.split} split, {count:,} structures:")
    for name, value in evaluation.metrics.items():
        readable = readable_metric(name, value)
        if readable is not None:
            print(f"  {readable}")
    relative = evaluation.force_error_relative_to_zero
    if relative is not None:
        print(f"  the force error is {relative:.1%} of the error of predicting zero")
    print("written:")
    for file in files:
        print(f"  {file}")

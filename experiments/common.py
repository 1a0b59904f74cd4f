"""What the programs share: how they end and what they print last."""

from __future__ import annotations

import functools
import os
import pathlib
import sys
import traceback
from collections.abc import Callable, Iterable, Sequence

from absl import app, flags, logging

from equiformer_jax.inference.predictions import check_suffix
from equiformer_jax.training.errors import RunError, RunInterruptedError
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
            print(explain(error), file=sys.stderr)
            sys.exit(status_of(error))

    return wrapped


def status_of(error: BaseException) -> int:
    """The exit status of a program that ends with this error.

    75 (`EX_TEMPFAIL`: try again) where a run was asked to end and is saved, else 1.
    """
    return os.EX_TEMPFAIL if isinstance(error, RunInterruptedError) else 1


def explain(error: BaseException) -> str:
    """What to print of an error that ends a program: its message, or else its traceback."""
    if isinstance(error, _EXPLAINED) and not flags.FLAGS["verbosity"].present:
        return f"{type(error).__name__}: {error}"
    return "".join(traceback.format_exception(error)).rstrip()


def run(main: Main) -> None:
    """Parses the flags of a program and runs its main function, as `absl.app.run` does.

    What is wrong with a flag is said in one line: a mistyped argument or field of a configuration
    would show the traceback of the file that refuses it.
    """
    app.run(main, flags_parser=_parse_flags)


def _parse_flags(arguments: Sequence[str]) -> list[str]:
    try:
        return list(flags.FLAGS(list(arguments)))
    except (flags.Error, AttributeError, KeyError, TypeError, ValueError, OSError) as error:
        cause: object = error  # that of a mistyped field is wrapped twice
        while isinstance(cause, Exception) and cause.args:
            cause = cause.args[0]
        # Refusals of a configuration file come as the text of a traceback, cause last.
        lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
        is_traceback = any("Traceback" in line for line in lines)
        message = lines[-1] if is_traceback else " ".join(lines)
        sys.exit(f"{message}\nPass --helpshort to see the flags.")


def checked_output(path: str) -> pathlib.Path:
    """The path of an output, if it can be written: better not found out when all is computed.

    Raises:
      ValueError: the suffix is unknown, or nothing can be written there.
      FileNotFoundError: the folder is not there.
    """
    check_suffix(path)
    output = pathlib.Path(path).expanduser().resolve()
    if not output.parent.is_dir():
        raise FileNotFoundError(f"{output.parent}: no such folder, to write {output.name} into")
    if output.is_dir() or not os.access(output.parent, os.W_OK):
        raise ValueError(f"{output} cannot be written")
    return output


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

"""Checks command lines of the programs without running any of them.

A program of its own, since every program defines flags of the same names: reads a list of command
lines (module first) as JSON from the standard input, writes a list of complaints, null for none.
"""

from __future__ import annotations

import importlib
import json
import sys

from absl import flags

from equiformer_jax.training.early_checks import check_configuration


def complaint(command: list[str]) -> str | None:
    """What is wrong with `[module, argument, ...]`; None if it would start to work."""
    module, *arguments = command
    before = set(flags.FLAGS)
    try:
        importlib.import_module(module)
        sys.argv = [module, *arguments]  # where overrides of a configuration are looked for
        left_over = flags.FLAGS(sys.argv)[1:]
        if left_over:
            return f"unknown arguments {left_over}"
        if "config" in flags.FLAGS:
            if flags.FLAGS.config is None:
                return "--config is missing"
            check_configuration(flags.FLAGS.config)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    finally:
        _forget(before)
    return None


def _forget(known: set[str]) -> None:
    """Undefines all flags but the known ones, so that the next program can define its own."""
    for name in set(flags.FLAGS) - known:
        if name in flags.FLAGS:
            delattr(flags.FLAGS, name)
    flags.FLAGS.unparse_flags()
    for name in [name for name in sys.modules if name.split(".")[0] == "experiments"]:
        del sys.modules[name]


if __name__ == "__main__":
    json.dump([complaint(command) for command in json.load(sys.stdin)], sys.stdout)

"""Programs that are run from the command line, and their configurations."""

from __future__ import annotations

import sys

from experiments.huge_pages import restart_with_huge_pages

restart_with_huge_pages()  # first, as it begins anew

try:
    import equiformer_jax  # noqa: F401
except RuntimeError as error:
    # A version of jax that computes wrong numbers ends a program with one line, not a traceback.
    if type(error).__name__ != "UnsupportedJaxVersionError":
        raise
    sys.exit(str(error))

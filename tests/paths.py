"""Where the reference material lies that is too large, or not ours, to be kept in this repository.

The folder is looked for in the environment variable `EQUIFORMER_SHARED`, then beside the checkout
(`../shared`). Tests that need it use the marks below and skip, with the reason, where it is absent.
"""

from __future__ import annotations

import os
import pathlib

import pytest

REPOSITORY = pathlib.Path(__file__).resolve().parents[1]
SHARED = pathlib.Path(os.environ.get("EQUIFORMER_SHARED", REPOSITORY.parent / "shared"))
GOLDEN = SHARED / "reference" / "golden"
REAL_DATA = SHARED / "data"

needs_golden = pytest.mark.skipif(
    not GOLDEN.is_dir(),
    reason="the official model's fixtures are not here: set EQUIFORMER_SHARED to their folder",
)
needs_real_data = pytest.mark.skipif(
    not REAL_DATA.is_dir(),
    reason="the public data samples are not here: set EQUIFORMER_SHARED to their folder",
)

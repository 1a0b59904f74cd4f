"""Other processes that use the download modules, without the seconds that importing jax takes."""

from __future__ import annotations

import json
import subprocess
import sys

from tests.paths import REPOSITORY

# The package's own `__init__` imports the models; an empty one in its place leaves them out.
_BEGINNING = f"""
import json, pathlib, sys, time, types
sys.path.insert(0, {str(REPOSITORY)!r})
package = types.ModuleType("equiformer_jax")
package.__path__ = [{str(REPOSITORY / "equiformer_jax")!r}]
sys.modules["equiformer_jax"] = package
arguments = json.loads(sys.argv[1])
"""
_END = """
assert "jax" not in sys.modules
"""


def start(program: str, **arguments) -> subprocess.Popen:
    """Starts Python with `program`, which finds the `arguments` in a mapping of that name."""
    command = [sys.executable, "-c", _BEGINNING + program + _END, json.dumps(arguments)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=1
    )


def finish(process: subprocess.Popen) -> str:
    """What it printed; its error as an assertion."""
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    return output


def kill(process: subprocess.Popen) -> None:
    """Ends it as an operator would, without a chance to tidy up."""
    process.kill()
    process.communicate()

"""The directory of a run: what lies where, and whether it can be written at all."""

from __future__ import annotations

import json
import os
import pathlib
import tempfile
from collections.abc import Mapping
from typing import Any

from ml_collections import config_dict

from equiformer_jax.training.errors import WorkdirError

CONFIG_FILE = "config.json"
STATISTICS_FILE = "statistics.json"


def prepare_workdir(workdir: str | os.PathLike[str]) -> pathlib.Path:
    """Creates the directory and writes a file in it, so that a run finds out before it starts.

    Returns:
      The absolute path.

    Raises:
      WorkdirError: the directory cannot be created or written; says why.
    """
    path = pathlib.Path(workdir).expanduser().resolve()
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path) as file:
            file.write(b"\0" * 4096)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise WorkdirError(f"cannot write to the workdir {path}: {error.strerror}") from error
    return path


def save_config(workdir: pathlib.Path, config: Mapping[str, Any]) -> None:
    """Writes a plain configuration as `config.json`."""
    text = json.dumps(config, indent=2)
    (workdir / CONFIG_FILE).write_text(text + "\n", encoding="utf-8")


def load_config(workdir: str | os.PathLike[str]) -> config_dict.ConfigDict:
    """Reads the configuration of the run that a workdir holds.

    Raises:
      WorkdirError: there is none, or it is not JSON; names the file.
    """
    path = pathlib.Path(workdir).expanduser().resolve() / CONFIG_FILE
    try:
        return config_dict.ConfigDict(json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise WorkdirError(f"{path.parent} is not the workdir of a run: no {path.name}") from error
    except ValueError as error:
        raise WorkdirError(f"{path}: expected the configuration of a run, {error}") from error

"""The directory of a run: what lies where, and whether it can be written at all."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import shutil
import tempfile
import uuid
from collections.abc import Mapping
from typing import Any

from ml_collections import config_dict

from equiformer_jax.data.processes import all_succeed, exchange, is_first_process
from equiformer_jax.data.statistics import DatasetStatistics
from equiformer_jax.training.errors import WorkdirError

CONFIG_FILE = "config.json"
STATISTICS_FILE = "statistics.json"


def prepare_workdir(workdir: str | os.PathLike[str]) -> pathlib.Path:
    """Creates the directory and writes a file in it, so that a run finds out before it starts.

    All processes of a run call it together.

    Returns:
      The absolute path.

    Raises:
      WorkdirError: the directory cannot be created or written, or the processes of a run do not
        see the same one, or it is an address and no directory; says why.
    """
    if "://" in os.fspath(workdir):
        raise WorkdirError(
            f"the workdir {os.fspath(workdir)} is not a folder; docs/launch.md says how runs and "
            "buckets go together"
        )
    path = pathlib.Path(workdir).expanduser().resolve()
    all_succeed(lambda: _create(path))
    _require_shared(path)
    return path


def _create(path: pathlib.Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path) as file:
            file.write(b"\0" * 4096)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise WorkdirError(f"cannot write to the workdir {path}: {error.strerror}") from error


def _require_shared(path: pathlib.Path) -> None:
    """Makes sure that all processes see what the first one writes."""
    name = exchange(f".seen_by_all_{uuid.uuid4().hex[:12]}")[0]
    mark = path / name
    if is_first_process():
        mark.touch()
    exchange(None)  # by then it is there
    seen = exchange(mark.exists())
    if is_first_process():
        mark.unlink()
    if not all(seen):
        raise WorkdirError(
            f"process {seen.index(False)} does not see what process 0 writes into the workdir "
            f"{path}: several hosts need one on a file system that all of them share"
        )


def check_free_space(workdir: str | os.PathLike[str], bytes_needed: int) -> None:
    """Finds out before a run starts whether what it will write has room.

    Args:
      workdir: an existing directory.
      bytes_needed: how much will be written, for instance `Checkpoints.bytes_needed`.

    Raises:
      WorkdirError: less is free; says how much is free and how much is needed.
    """
    free = shutil.disk_usage(workdir).free
    if free < bytes_needed:
        raise WorkdirError(
            f"the disk of the workdir {workdir} is too full: {_megabytes(bytes_needed)} are "
            f"needed for checkpoints, {_megabytes(free)} are free"
        )


def _megabytes(count: int) -> str:
    return f"{count / 1e6:,.1f} MB"


def write_text_atomically(path: str | os.PathLike[str], text: str) -> None:
    """Writes a file such that whoever reads it, whenever, finds the old text or the new one whole.

    Args:
      path: file to write or to replace; its directory exists.
      text: contents, written as UTF-8.

    Raises:
      WorkdirError: it cannot be written; names the file. What was there is still there.
    """
    path = pathlib.Path(path)
    temporary = path.with_name(f"{path.name}.tmp")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise WorkdirError(f"cannot write {path}: {error.strerror}") from error


def write_json_atomically(path: str | os.PathLike[str], values: Any) -> None:
    """Writes what JSON can hold, indented for people, with `write_text_atomically`."""
    write_text_atomically(path, json.dumps(values, indent=2) + "\n")


def save_config(workdir: pathlib.Path, config: Mapping[str, Any]) -> None:
    """Writes a plain configuration as `config.json`."""
    write_json_atomically(workdir / CONFIG_FILE, config)


def save_statistics(workdir: pathlib.Path, statistics: DatasetStatistics) -> None:
    """Writes `statistics.json`, which `DatasetStatistics.load` reads."""
    write_json_atomically(workdir / STATISTICS_FILE, dataclasses.asdict(statistics))


def load_config(workdir: str | os.PathLike[str]) -> config_dict.ConfigDict:
    """Reads the configuration of the run that a workdir holds.

    Raises:
      WorkdirError: there is none, or it cannot be read, or is damaged; names the file.
    """
    path = pathlib.Path(workdir).expanduser().resolve() / CONFIG_FILE
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise WorkdirError(f"{path.parent} is not the workdir of a run: no {path.name}") from error
    except OSError as error:
        raise WorkdirError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise WorkdirError(f"{path}: expected the configuration of a run, {error}") from error
    if not isinstance(values, dict):
        raise WorkdirError(f"{path}: expected the configuration of a run, got {values!r:.60}")
    return config_dict.ConfigDict(values)

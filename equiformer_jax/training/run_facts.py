"""What is worth knowing of a run beside its configuration and its records, as `run.json`."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import os
import pathlib
from collections.abc import Mapping

import jax

from equiformer_jax.training.errors import WorkdirError
from equiformer_jax.training.workdir import write_json_atomically

FILE_NAME = "run.json"


def package_version() -> str:
    """The version of this package as it is installed."""
    try:
        return importlib.metadata.version("equiformer_jax")
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


@dataclasses.dataclass(frozen=True)
class RunFacts:
    """Facts that a run writes down when it starts.

    Attributes:
      split_sizes: structures of each split, by its name, `train` among them.
      num_parameters: of the model.
      devices: on what it trains, such as `4 x TPU v5 lite`.
      package_version: of this package, as it trains.
      jax_version: likewise.
    """

    split_sizes: Mapping[str, int]
    num_parameters: int
    devices: str
    package_version: str = dataclasses.field(default_factory=package_version)
    jax_version: str = jax.__version__

    def __post_init__(self) -> None:
        """Checks that the number of training structures is there."""
        if "train" not in self.split_sizes:
            raise ValueError(f"split_sizes: expected 'train' among {sorted(self.split_sizes)}")

    def save(self, workdir: str | os.PathLike[str]) -> None:
        """Writes `run.json` into the workdir."""
        write_json_atomically(pathlib.Path(workdir) / FILE_NAME, dataclasses.asdict(self))

    @classmethod
    def load(cls, workdir: str | os.PathLike[str]) -> RunFacts:
        """Reads what `save` wrote.

        Raises:
          WorkdirError: the file is not there or damaged; names it.
        """
        path = pathlib.Path(workdir).expanduser() / FILE_NAME
        try:
            return cls(**json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise WorkdirError(f"{path}: expected the facts of a run, {error}") from error

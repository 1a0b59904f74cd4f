"""The records of a run: `metrics.jsonl` and TensorBoard, written by one process for all."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from equiformer_jax.data.processes import is_first_process
from equiformer_jax.training.metrics import MetricsFile
from equiformer_jax.training.tensorboard import ScalarWriter


class RunLog:
    """Takes the records of a run, to be used in a `with` block.

    All processes of a run give it the same ones; the first process writes them.
    """

    def __init__(self, workdir: str | os.PathLike[str], steps_done: int) -> None:
        """Goes on after `steps_done` steps; what is written of later ones is dropped.

        Args:
          workdir: directory of the run.
          steps_done: steps of the checkpoint with which the run goes on.
        """
        self._writers: list[MetricsFile | ScalarWriter] = []
        if is_first_process():
            self._writers = [MetricsFile(workdir, steps_done), ScalarWriter(workdir, steps_done)]

    def write(self, record: Mapping[str, Any]) -> None:
        """Writes one record (`MetricsFile`).

        Raises:
          WorkdirError: it cannot be written; names the file.
        """
        for writer in self._writers:
            writer.write(record)

    def __enter__(self) -> RunLog:
        return self

    def __exit__(self, *_: object) -> None:
        for writer in self._writers:
            if isinstance(writer, ScalarWriter):
                writer.close()

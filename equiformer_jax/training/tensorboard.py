"""The numbers of a run for TensorBoard: `tensorboard --logdir=WORKDIR`."""

from __future__ import annotations

import os
import pathlib
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.proto.summary_pb2 import Summary

DIRECTORY = "tensorboard"

# Say where a record belongs, or are its abscissa.
_NOT_DRAWN = frozenset({"kind", "epoch", "step", "step_of_epoch"})
# Longer prefixes before those that end like them.
_SPLITS = ("ema_validation_", "validation_", "train_", "test_")


class ScalarWriter:
    """Writes the numbers of records under `<workdir>/tensorboard`, to be used in a `with` block.

    Errors are grouped by the split that they are of, as `validation/force_mae_mev_per_angstrom`;
    what is of no split is in the group `run`, and what is of a part of an epoch in `steps`.
    """

    def __init__(self, workdir: str | os.PathLike[str], steps_done: int = 0) -> None:
        """Opens a new file of events, to go on after `steps_done` steps.

        What earlier files say of later steps comes from a run that was killed after its last
        checkpoint: TensorBoard is told to leave it out.

        Args:
          workdir: directory of the run.
          steps_done: steps of the checkpoint with which the run goes on.
        """
        directory = pathlib.Path(workdir) / DIRECTORY
        directory.mkdir(parents=True, exist_ok=True)
        # Names have the time in seconds only; a run that goes on at once must not overwrite a file.
        number = len(list(directory.glob("events.*")))
        # Not the usual SummaryWriter: its thread writes some time later, and what it has not
        # written when a run is killed is lost, though the checkpoint may be there.
        self._writer = EventsWriter(str(directory / "events"), f".{number:04d}")
        start = SessionLog(status=SessionLog.START)
        self._write(Event(step=steps_done + 1, session_log=start))

    def write(self, record: Mapping[str, Any]) -> None:
        """Writes every number of a record at its step, for TensorBoard to see at once.

        Args:
          record: as in `metrics.jsonl`.
        """
        values = [
            Summary.Value(tag=_tag(record["kind"], name), simple_value=float(value))
            for name, value in record.items()
            if name not in _NOT_DRAWN and _is_number(value)
        ]
        self._write(Event(step=record["step"], summary=Summary(value=values)))

    def _write(self, event: Event) -> None:
        event.wall_time = time.time()
        self._writer.write_event(event)
        self._writer.flush()

    def close(self) -> None:
        """Ends the file."""
        self._writer.close()

    def __enter__(self) -> ScalarWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _tag(kind: str, name: str) -> str:
    if kind == "steps":
        return f"steps/{name}"
    for split in _SPLITS:
        if name.startswith(split):
            return f"{split.removesuffix('_')}/{name.removeprefix(split)}"
    return f"run/{name}"

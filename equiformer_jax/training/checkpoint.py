"""Checkpoints of a run: its state, with all that is needed to go on or to use the model."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import jax
import orbax.checkpoint as ocp

from equiformer_jax.data.processes import decided_by_first, is_first_process
from equiformer_jax.training.errors import (
    CheckpointDamagedError,
    CheckpointMismatchError,
    MissingAverageError,
    WorkdirError,
)
from equiformer_jax.training.integrity import (
    AVERAGE_ITEM,
    DIRECTORY,
    PARAMS_ITEM,
    RECORD_ITEM,
    TRAINING_ITEM,
    TRASH,
    CheckpointFiles,
    first_line,
)
from equiformer_jax.training.retention import Retention, read_losses
from equiformer_jax.training.run_record import SELECTION_METRIC, RunRecord, read_record
from equiformer_jax.training.shared_listing import reload_until_same
from equiformer_jax.training.state import Params, TrainState

__all__ = ["DIRECTORY", "SELECTION_METRIC", "Checkpoints", "RunRecord"]


class Checkpoints:
    """The checkpoints of one workdir, each in a directory named by the steps that were done.

    The newest few are kept, and the best one by `SELECTION_METRIC`. One without this metric, as an
    interruption in the middle of an epoch leaves it, never counts as best.

    Saving is asynchronous; leave the `with` block, or call `close`, before the program ends. As
    soon as a checkpoint is complete, the digests of its files are written beside it, so that
    whatever happens to them later is found: `newest_good` looks for it, and nothing damaged is
    ever restored. One program at a time may save here; others may read at the same time.

    The processes of a run on several hosts open, save and restore together, in one directory that
    all of them see. The first process judges what is damaged and what is the best, for all.
    """

    def __init__(
        self,
        workdir: str | os.PathLike[str],
        keep_latest: int = 2,
        say: Callable[[str], None] = print,
    ) -> None:
        """Opens, and if need be creates, `workdir/checkpoints`.

        Args:
          workdir: directory of the run.
          keep_latest: how many of the newest checkpoints to keep, beside the best one.
          say: takes a line about each damaged checkpoint.

        Raises:
          ValueError: `keep_latest` is less than 1.
        """
        self._files, self._say = CheckpointFiles(pathlib.Path(workdir).resolve()), say
        self._retention = Retention(keep_latest)
        self._manager = ocp.CheckpointManager(
            self.directory,
            options=ocp.CheckpointManagerOptions(
                preservation_policy=self._retention,
                todelete_subdir=TRASH,
                lightweight_initialize=True,  # what orbax would read is in the records
            ),
        )
        self._sealer = ThreadPoolExecutor(1, "checkpoint_digests")
        self._sealing: Future[None] | None = None
        self._read_losses()

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Waits for the last save and closes.

        Raises:
          WorkdirError: the last save failed.
        """
        try:
            self.wait()
        finally:
            self._sealer.shutdown()
            self._manager.close()

    def wait(self) -> None:
        """Waits until the last save is complete, its digests included.

        Raises:
          WorkdirError: it failed; says why.
        """
        sealing, self._sealing = self._sealing, None
        if sealing is None:
            return
        try:
            sealing.result()
        except Exception as error:
            with contextlib.suppress(Exception):
                self._manager.wait_until_finished()  # raises the same once more in this thread
            raise WorkdirError(f"a checkpoint could not be written: {first_line(error)}") from error

    @property
    def directory(self) -> pathlib.Path:
        """Where all checkpoints are."""
        return self._files.directory

    @property
    def latest_step(self) -> int | None:
        """Steps done by the newest checkpoint; `None` without one."""
        return self._manager.latest_step()

    @property
    def best_step(self) -> int | None:
        """Steps done by the checkpoint with the lowest validation loss; `None` without one."""
        return self._retention.best_of(self._manager.all_steps())

    def path(self, step: int) -> pathlib.Path:
        """Directory of the checkpoint after so many steps."""
        return self._files.path(step)

    def save(self, state: TrainState, record: RunRecord) -> None:
        """Starts to write the state after `record.step` steps.

        A checkpoint after as many steps that is there already is left as it is.

        Args:
          state: state to save; its buffers may be donated as soon as this returns.
          record: everything else; its metrics hold `SELECTION_METRIC` if it may become the best.

        Raises:
          WorkdirError: this save cannot be started, or the one before failed; says why.
        """
        self.wait()
        if record.step in self._manager.all_steps():
            return
        self._retention.note(record)
        items = {
            **{name: ocp.args.StandardSave(tree) for name, tree in _items_of(state).items()},
            RECORD_ITEM: ocp.args.JsonSave(dataclasses.asdict(record)),
        }
        try:
            if is_first_process():
                self._files.forget(record.step)  # digests of one that somebody has removed
            self._manager.save(record.step, args=ocp.args.Composite(**items), force=True)
        except (OSError, RuntimeError, ValueError) as error:
            message = f"cannot write {self.path(record.step)}: {first_line(error)}"
            raise WorkdirError(message) from error
        self._sealing = self._sealer.submit(self._seal, record.step)

    def read_record(self, step: int) -> RunRecord:
        """Reads everything but the state.

        Raises:
          CheckpointFormatError: the checkpoint has another format; names it.
          CheckpointDamagedError: the record cannot be read; names it.
        """
        self.wait()
        return read_record(self.path(step))

    def restore_params(self, step: int, template: Params, average: bool = False) -> Params:
        """Reads the parameters alone, onto the devices on which the template's leaves lie.

        Args:
          step: which checkpoint.
          template: parameters, or `jax.ShapeDtypeStruct`s with shardings, of the same structure.
          average: read their moving average instead of the last ones.

        Raises:
          MissingAverageError: the run keeps no average.
          CheckpointDamagedError: a file of the checkpoint is damaged; names it.
        """
        item = AVERAGE_ITEM if average else PARAMS_ITEM
        return self._restore(step, {item: template})[item]

    def restore_state(self, step: int, template: TrainState) -> TrainState:
        """Reads the whole state onto the devices on which the template's leaves lie.

        Args:
          step: which checkpoint.
          template: a state, or `jax.ShapeDtypeStruct`s with shardings, of the same structure.

        Raises:
          MissingAverageError: the template has an average and the checkpoint has none.
          CheckpointDamagedError: a file of the checkpoint is damaged; names it.
        """
        items = self._restore(step, _items_of(template))
        params, average = items[PARAMS_ITEM], items.get(AVERAGE_ITEM)
        return TrainState(params=params, ema_params=average, **items[TRAINING_ITEM])

    def check_configuration(self, step: int, config: Mapping[str, Any]) -> RunRecord:
        """Refuses to go on with a checkpoint of another configuration.

        Args:
          step: which checkpoint.
          config: plain configuration of the run that wants to go on with it.

        Returns:
          The checkpoint's record.

        Raises:
          CheckpointMismatchError: lists the fields that differ.
        """
        record = self.read_record(step)
        if lines := record.differences(config):
            raise CheckpointMismatchError(
                f"{self.path(step)} was written with another configuration; choose another "
                "workdir or repeat its settings:\n  " + "\n  ".join(lines)
            )
        return record

    def damage(self, step: int) -> str | None:
        """What is wrong with the files of a checkpoint; `None` if they are what was written.

        Raises:
          WorkdirError: this user may not read a file.
        """
        self.wait()
        return self._files.find_damage(step)

    def check_files(self, step: int) -> None:
        """Makes an error of what `damage` finds.

        Raises:
          CheckpointDamagedError: a file of the checkpoint is damaged; names it.
        """
        if (damage := self.damage(step)) is not None:
            raise CheckpointDamagedError(f"{self.path(step)} is damaged: {damage}")

    def newest_good(self) -> int | None:
        """Looks through all checkpoints, to go on with the newest that is as it was written.

        Each damaged one is named, with the file and what is wrong with it, and moved to
        `workdir/damaged_checkpoints`. What a killed save has left is removed. For the program that
        trains here, before it saves; others, which may run at the same time, ask for `damage`.

        Returns:
          Steps done by the newest good checkpoint, `None` if there is none.

        Raises:
          WorkdirError: this user may not read a file, or not move a damaged checkpoint; or the
            processes of the run see different checkpoints.
        """
        self.wait()
        decided_by_first(self._set_damaged_aside)
        reload_until_same(self._manager)
        self._read_losses()
        return decided_by_first(lambda: self.latest_step)

    def _set_damaged_aside(self) -> None:
        self._files.remove_leftovers()
        self._files.set_damaged_aside(self._say)

    def _seal(self, step: int) -> None:
        """Waits for a save and writes its digests; runs in a thread of its own."""
        self._manager.wait_until_finished()
        if is_first_process():
            self._files.seal(step)

    def _read_losses(self) -> None:
        steps = self._manager.all_steps()
        self._retention.losses = decided_by_first(lambda: read_losses(steps, self.read_record))

    def _restore(self, step: int, templates: Mapping[str, Any]) -> Mapping[str, Any]:
        decided_by_first(lambda: self.check_files(step))
        if AVERAGE_ITEM in templates and not (self.path(step) / AVERAGE_ITEM).is_dir():
            raise MissingAverageError(
                f"{self.path(step)} has no average of the parameters; its run keeps none"
            )
        trees = {name: jax.tree.map(_abstract, tree) for name, tree in templates.items()}
        items = {name: ocp.args.StandardRestore(tree) for name, tree in trees.items()}
        return dict(self._manager.restore(step, args=ocp.args.Composite(**items)).items())


def _items_of(state: TrainState) -> dict[str, Any]:
    """Parameters are items of their own, for those who only use the model."""
    rest = {"step": state.step, "opt_state": state.opt_state, "rng": state.rng}
    average = {} if state.ema_params is None else {AVERAGE_ITEM: state.ema_params}
    return {PARAMS_ITEM: state.params, TRAINING_ITEM: rest, **average}


def _abstract(leaf: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=getattr(leaf, "sharding", None))

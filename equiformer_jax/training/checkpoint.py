"""Checkpoints of a run: its state, with all that is needed to go on or to use the model."""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import AnyPreservationPolicy, BestN, LatestN

from equiformer_jax.data.statistics import DatasetStatistics
from equiformer_jax.training.configuration import describe_difference
from equiformer_jax.training.errors import CheckpointMismatchError
from equiformer_jax.training.state import Params, TrainState

FORMAT_VERSION = 1
DIRECTORY = "checkpoints"
SELECTION_METRIC = "validation_loss"
# Fields that change what a run prints or keeps, but no number that it computes.
FREE_FIELDS = frozenset(
    {
        "training.log_every_steps",
        "training.keep_checkpoints",
        "training.evaluation_batch_size",
    }
)


@dataclasses.dataclass(frozen=True)
class RunRecord:
    """What a checkpoint holds beside the training state.

    Attributes:
      config: the run's configuration, plain (`configuration.to_plain`).
      statistics: those of the training split.
      epoch: epochs done; the data of epoch `epoch` come next.
      metrics: last metrics, by name.
      package_version: version of this package that wrote it.
      format_version: `FORMAT_VERSION` at the time of writing.
    """

    config: dict[str, Any]
    statistics: DatasetStatistics
    epoch: int
    metrics: dict[str, float]
    package_version: str
    format_version: int = FORMAT_VERSION

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> RunRecord:
        """Reads the mapping that `dataclasses.asdict` gives.

        Raises:
          ValueError: the format is newer than this package.
        """
        version = values.get("format_version")
        if version != FORMAT_VERSION:
            raise ValueError(
                f"checkpoint format {version!r}; this version reads format {FORMAT_VERSION}"
            )
        statistics = DatasetStatistics.from_dict(values["statistics"])
        return cls(**{**values, "statistics": statistics})


class Checkpoints:
    """The checkpoints of one workdir: one for each epoch, the newest few and the best are kept.

    Saving is asynchronous; leave the `with` block, or call `close`, before the program ends.
    """

    def __init__(self, workdir: str | os.PathLike[str], keep_latest: int = 2) -> None:
        """Opens, and if need be creates, `workdir/checkpoints`.

        Args:
          workdir: directory of the run.
          keep_latest: how many of the newest checkpoints to keep, beside the best one.
        """
        self.directory = pathlib.Path(workdir).resolve() / DIRECTORY
        self._manager = ocp.CheckpointManager(
            self.directory,
            options=ocp.CheckpointManagerOptions(
                preservation_policy=AnyPreservationPolicy(
                    [LatestN(keep_latest), BestN(get_metric_fn=_selection, reverse=True, n=1)]
                ),
                best_fn=_selection,
                best_mode="min",
            ),
        )

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Waits for the last save and closes."""
        self._manager.wait_until_finished()
        self._manager.close()

    @property
    def latest_epoch(self) -> int | None:
        """Epochs done by the newest checkpoint; `None` without one."""
        return self._manager.latest_step()

    @property
    def best_epoch(self) -> int | None:
        """Epochs done by the checkpoint with the lowest validation loss; `None` without one."""
        return self._manager.best_step()

    def path(self, epoch: int) -> pathlib.Path:
        """Directory of the checkpoint after so many epochs."""
        return self.directory / str(epoch)

    def save(self, state: TrainState, record: RunRecord) -> None:
        """Starts to write the state after `record.epoch` epochs.

        Args:
          state: state to save; its buffers may be donated as soon as this returns.
          record: everything else; its metrics hold `SELECTION_METRIC`.
        """
        self._manager.save(
            record.epoch,
            args=ocp.args.Composite(
                params=ocp.args.StandardSave(state.params),
                training=ocp.args.StandardSave(_without_params(state)),
                record=ocp.args.JsonSave(dataclasses.asdict(record)),
            ),
            metrics=record.metrics,
        )

    def read_record(self, epoch: int) -> RunRecord:
        """Reads everything but the state.

        Raises:
          ValueError: the checkpoint has another format; names it.
        """
        restored = self._manager.restore(
            epoch, args=ocp.args.Composite(record=ocp.args.JsonRestore())
        )
        try:
            return RunRecord.from_dict(restored["record"])
        except ValueError as error:
            raise ValueError(f"{self.path(epoch)}: {error}") from error

    def restore_params(self, epoch: int, template: Params) -> Params:
        """Reads the parameters alone, onto the devices on which the template's leaves lie.

        Args:
          epoch: which checkpoint.
          template: parameters, or `jax.ShapeDtypeStruct`s with shardings, of the same structure.
        """
        return self._restore(epoch, params=template)["params"]

    def restore_state(self, epoch: int, template: TrainState) -> TrainState:
        """Reads the whole state onto the devices on which the template's leaves lie.

        Args:
          epoch: which checkpoint.
          template: a state, or `jax.ShapeDtypeStruct`s with shardings, of the same structure.
        """
        items = self._restore(epoch, params=template.params, training=_without_params(template))
        return TrainState(params=items["params"], **items["training"])

    def _restore(self, epoch: int, **templates: Any) -> Any:
        items = {
            name: ocp.args.StandardRestore(jax.tree.map(_abstract, template))
            for name, template in templates.items()
        }
        return self._manager.restore(epoch, args=ocp.args.Composite(**items))

    def check_configuration(self, epoch: int, config: Mapping[str, Any]) -> RunRecord:
        """Refuses to go on with a checkpoint of another configuration.

        Args:
          epoch: which checkpoint.
          config: plain configuration of the run that wants to go on with it.

        Returns:
          The checkpoint's record.

        Raises:
          CheckpointMismatchError: lists the fields that differ.
        """
        record = self.read_record(epoch)
        lines = describe_difference(record.config, config, ignored=FREE_FIELDS)
        if lines:
            raise CheckpointMismatchError(
                f"{self.path(epoch)} was written with another configuration; choose another "
                "workdir or repeat its settings:\n  " + "\n  ".join(lines)
            )
        return record


def _without_params(state: TrainState) -> dict[str, Any]:
    """The rest; parameters are an item of their own, for those who only use the model."""
    return {"step": state.step, "opt_state": state.opt_state, "rng": state.rng}


def _selection(metrics: Mapping[str, float]) -> float:
    return metrics[SELECTION_METRIC]


def _abstract(leaf: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=getattr(leaf, "sharding", None))

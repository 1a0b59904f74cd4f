"""What a checkpoint says about itself: the run, how far it had come, and what it had reached."""

from __future__ import annotations

import dataclasses
import math
import pathlib
from collections.abc import Mapping
from typing import Any

from equiformer_jax.data.statistics import DatasetStatistics
from equiformer_jax.models.config import FIELDS_OF_MEMORY
from equiformer_jax.training.configuration import describe_difference
from equiformer_jax.training.errors import CheckpointDamagedError, CheckpointFormatError
from equiformer_jax.training.integrity import RECORD_ITEM, read_json_item

FORMAT_VERSION = 2
# What the best checkpoint has the lowest of (`Objective.selection`).
SELECTION_METRIC = "validation_selection"
# Fields that change what a run prints, keeps and needs, or where it computes, but, up to round-off
# and the draws of dropout, no weight; and what may be changed after a step that was not finite.
FREE_FIELDS = frozenset(
    {
        "data.graph_cache",
        "data.headroom",
        "data.options.directory",  # where the data lie; that they are the same is checked
        "data.options.download",
        "data.options.file",
        "data.workers",
        "mesh.edge_parts",
        "mesh.shard_optimizer",
        "training.evaluation_batch_size",
        "training.keep_checkpoints",
        "training.log_every_steps",
        "training.report",
        "training.skip_nonfinite",
        "training.test_batches",
        "training.test_every_epochs",
        "training.validate_every_steps",
        *(f"model.{field}" for field in FIELDS_OF_MEMORY),
    }
)
# What runs did from before there was a field for it; fields that may be None were None.
_EARLIER = {
    "objective.displacement_error": "sum_over_components",
    "training.ensemble": 1,
}


@dataclasses.dataclass(frozen=True)
class RunRecord:
    """What a checkpoint holds beside the training state.

    Attributes:
      config: the run's configuration, plain (`configuration.to_plain`).
      statistics: those of the training split.
      step: steps done in the whole run.
      epoch: the next batch is of this epoch, counted from 0 ...
      step_of_epoch: ... and has this place in it.
      metrics: last metrics, by name; `SELECTION_METRIC` where the state has been validated.
      package_version: version of this package that wrote it.
      format_version: `FORMAT_VERSION` at the time of writing.
    """

    config: dict[str, Any]
    statistics: DatasetStatistics
    step: int
    epoch: int
    step_of_epoch: int
    metrics: dict[str, float]
    package_version: str
    format_version: int = FORMAT_VERSION

    @property
    def is_epoch_end(self) -> bool:
        """Whether whole epochs are done, so that no interruption led to this checkpoint."""
        return self.step_of_epoch == 0

    @property
    def selection_error(self) -> float | None:
        """What the best checkpoint has the lowest of; `None` if this one cannot be the best."""
        error = self.metrics.get(SELECTION_METRIC)
        return error if error is not None and math.isfinite(error) else None

    def differences(self, config: Mapping[str, Any]) -> list[str]:
        """The fields in which a plain configuration would lead to other weights, a line for each.

        `FREE_FIELDS` may differ.
        """
        return describe_difference(self.config, config, FREE_FIELDS, _EARLIER)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> RunRecord:
        """Reads the mapping that `dataclasses.asdict` gives.

        Raises:
          CheckpointFormatError: it has another format than this version of the package reads.
          ValueError: it is of this format but has other fields.
        """
        if not isinstance(values, Mapping):
            raise ValueError(f"expected a record, got {values!r:.60}")
        version = values.get("format_version")
        if version != FORMAT_VERSION:
            raise CheckpointFormatError(
                f"checkpoint format {version!r}; this version reads format {FORMAT_VERSION}"
            )
        expected = {field.name for field in dataclasses.fields(cls)}
        if set(values) != expected:
            raise ValueError(f"record of {sorted(values)}; expected {sorted(expected)}")
        statistics = DatasetStatistics.from_dict(values["statistics"])
        return cls(**{**values, "statistics": statistics})


def read_record(folder: pathlib.Path) -> RunRecord:
    """Reads the record of a checkpoint.

    Args:
      folder: of the checkpoint.

    Raises:
      CheckpointFormatError: the checkpoint has another format; names it.
      CheckpointDamagedError: the record cannot be read; names it.
    """
    try:
        return RunRecord.from_dict(read_json_item(folder / RECORD_ITEM))
    except CheckpointFormatError as error:
        raise CheckpointFormatError(f"{folder}: {error}") from error
    except (OSError, ValueError) as error:
        raise CheckpointDamagedError(f"{folder}: cannot read its {RECORD_ITEM}: {error}") from error

"""The part `mesh` of a configuration: how the devices share the work and the memory of a step."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class MeshSettings:
    """How devices share a step.

    No result depends on it, up to round-off and the draws of dropout.

    Attributes:
      shard_optimizer: whether the state of the optimizer and the moving average of the weights are
        divided over the devices, instead of each device holding them all (`state.state_sharding`).
      edge_parts: devices that share the edges of one part of a batch.
    """

    shard_optimizer: bool = False
    edge_parts: int = 1

    def __post_init__(self) -> None:
        """Checks the values."""
        if self.edge_parts < 1:
            raise ValueError(
                f"config.mesh.edge_parts={self.edge_parts}; expected at least 1, a divisor of the "
                "number of devices"
            )

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any] | None) -> MeshSettings:
        """Reads `config.mesh`; runs from before there was one have the defaults.

        Raises:
          ValueError: a field is unknown, or its value does not fit; names it.
        """
        values = dict(settings.items()) if settings is not None else {}
        known = {field.name for field in dataclasses.fields(cls)}
        if not values.keys() <= known:
            raise ValueError(
                f"config.mesh: unknown fields {sorted(values.keys() - known)}; known are "
                f"{sorted(known)}"
            )
        return cls(**values)

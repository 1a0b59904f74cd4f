"""The time below which published peaks do not let a step fall. Not a measurement, not a forecast.

Each of the three bounds assumes that the step does nothing else and does it at the published peak:
the matrix unit full, memory and links streaming. The largest is the bound on the step. A real step
takes longer: matrices smaller than the matrix unit leave it part empty, arithmetic between the
products has no published peak and is left out, and every kernel takes time to start.
"""

from __future__ import annotations

import dataclasses

from experiments.tpu.chips import Chip
from experiments.tpu.costs import Costs


@dataclasses.dataclass(frozen=True)
class Roofline:
    """Three bounds, in seconds.

    Attributes:
      arithmetic: matrix products, float32 ones counted with their bfloat16 passes.
      memory: traffic with the main memory.
      interconnect: bytes sent to other chips.
    """

    arithmetic: float
    memory: float
    interconnect: float

    @property
    def bounds(self) -> dict[str, float]:
        """By name."""
        return dataclasses.asdict(self)

    @property
    def limit(self) -> str:
        """The name of the largest bound."""
        return max(self.bounds, key=self.bounds.__getitem__)

    @property
    def seconds(self) -> float:
        """The largest bound."""
        return max(self.bounds.values())


def roofline(costs: Costs, chip: Chip) -> Roofline:
    """Bounds on a step with these costs."""
    return Roofline(
        arithmetic=costs.pass_flops / chip.flops_per_second,
        memory=costs.memory_bytes / chip.memory_bytes_per_second,
        interconnect=costs.interconnect_bytes / chip.sent_bytes_per_second,
    )

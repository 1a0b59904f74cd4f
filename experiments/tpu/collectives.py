"""Bytes that the collectives of a compiled program send over the interconnect.

Counted as on a ring, which is optimal for large arrays: of n chips that share an array of B bytes,
each sends (n - 1) / n B to gather or to scatter its sum, and twice that for an all-reduce.
"""

from __future__ import annotations

import dataclasses
import math
import re

from experiments.tpu.hlo import Instruction

_KINDS = (
    "all-gather",
    "all-reduce",
    "all-to-all",
    "collective-broadcast",
    "collective-permute",
    "ragged-all-to-all",
    "reduce-scatter",
)
_LATER_PIECES = ("async-collective-done", "async_collective_fusion")


@dataclasses.dataclass(frozen=True)
class Collective:
    """A collective of a program.

    Attributes:
      kind: such as `all-reduce`.
      name: of the instruction.
      source: where in the model it comes from.
      times: how often it runs in a step.
      group: how many chips take part together.
      payload: bytes of the whole array, without padding.
    """

    kind: str
    name: str
    source: str
    times: int
    group: int
    payload: int

    @property
    def sent_bytes(self) -> float:
        """Bytes that a chip sends in a step."""
        if self.group == 1:
            return 0.0
        share = (self.group - 1) / self.group
        factor = {"all-reduce": 2 * share, "collective-permute": 1.0}.get(self.kind, share)
        return self.times * factor * self.payload


def kind_of(line: Instruction) -> str | None:
    """Which collective an instruction is or starts; None if none."""
    opcode = line.opcode.removesuffix("-start")
    return opcode if opcode in _KINDS else None


def read_collective(
    line: Instruction, kind: str, operand_bytes: int, times: int, num_chips: int
) -> Collective:
    """A collective with its sizes.

    Args:
      line: the instruction.
      kind: from `kind_of`.
      operand_bytes: of what it reads, without padding.
      times: how often it runs in a step.
      num_chips: of the whole program.
    """
    group = num_chips if kind == "collective-permute" else _group_size(line, num_chips)
    # A chip reads its own part of what is gathered, and all of what is summed.
    payload = operand_bytes * group if kind == "all-gather" else operand_bytes
    return Collective(kind, line.name, line.source, times, group, payload)


def goes_on(line: Instruction) -> bool:
    """Whether a fusion only goes on with a collective, or ends it, that another one has started.

    XLA lets a collective run beside other work by putting a piece of it into each of the kernels
    between its start and its end. All of them name the whole collective.
    """
    names = (line.name, *line.called.get("calls", ()))
    return any(name.startswith(_LATER_PIECES) for name in names)


def _group_size(line: Instruction, num_chips: int) -> int:
    """Chips that take part together; all where nothing is said.

    Three forms are known: `{{0,1},{2,3}}`, `[2,2]<=[4]` (groups, then chips of each) and
    `mesh['a'=2,'b'=2] {'a'}` (the axes along which chips take part).
    """
    text = line.attributes
    if listed := re.search(r"replica_groups=\{\{([\d,]+)\}", text):
        return len(listed[1].split(","))
    if counted := re.search(r"replica_groups=\[([\d,]+)\]", text):
        sizes = [int(size) for size in counted[1].split(",")]
        return math.prod(sizes[1:])
    if meshed := re.search(r"replica_groups=\w*mesh\w*\[(.*?)\] ?\{(.*?)\}", text):
        axes = {name: int(size) for name, size in re.findall(r"'(\w+)'=(\d+)", meshed[1])}
        return math.prod(axes[name] for name in re.findall(r"'(\w+)'", meshed[2]))
    return num_chips

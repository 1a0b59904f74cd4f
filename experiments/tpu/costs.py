"""What one run of a compiled program costs a chip: arithmetic, memory traffic, communication.

XLA's own analysis counts the body of a loop once, whichever memory an array lies in; here bodies
count as often as they run, and only traffic with the main memory counts.
"""

from __future__ import annotations

import dataclasses
import itertools

from experiments.tpu.collectives import Collective, goes_on, kind_of, read_collective
from experiments.tpu.hlo import Computation, Instruction, Program
from experiments.tpu.loops import trip_count
from experiments.tpu.products import passes_of, product_flops
from experiments.tpu.traffic import is_free, moved_bytes

_PRODUCTS = ("convolution", "dot")
_ELEMENTWISE = {
    "abs", "add", "and", "clamp", "compare", "divide", "maximum", "minimum", "multiply", "negate",
    "not", "or", "remainder", "select", "sign", "subtract",
    # Transcendental functions count as one.
    "atan2", "cbrt", "cosine", "erf", "exponential", "exponential-minus-one", "log",
    "log-plus-one", "logistic", "power", "rsqrt", "sine", "sqrt", "tan", "tanh",
}  # fmt: skip


@dataclasses.dataclass
class Costs:
    """Of one run, on one chip.

    Attributes:
      product_flops: of matrix products and convolutions.
      pass_flops: the same, each as often as the matrix unit has to pass over it: a float32
        product of the highest precision is six bfloat16 products.
      elementwise_flops: all other arithmetic, one for each element of a result.
      memory_bytes: read from and written to main memory.
      kernels: instructions that are started one after another.
      collectives: those of the program.
    """

    product_flops: float = 0.0
    pass_flops: float = 0.0
    elementwise_flops: float = 0.0
    memory_bytes: float = 0.0
    kernels: int = 0
    collectives: list[Collective] = dataclasses.field(default_factory=list)

    @property
    def interconnect_bytes(self) -> float:
        """Bytes that the chip sends to others."""
        return sum(collective.sent_bytes for collective in self.collectives)


def count_costs(program: Program, num_chips: int) -> Costs:
    """Costs of one run of a program on each of its chips.

    Args:
      program: compiled for TPUs.
      num_chips: that it runs on.

    Raises:
      ValueError: how often a loop runs cannot be read off the program; names it.
    """
    counter = _Counter(program, num_chips)
    counter.run(program.computations[program.entry], times=1)
    return counter.costs


class _Counter:
    def __init__(self, program: Program, num_chips: int) -> None:
        self._program, self._num_chips = program, num_chips
        self.costs = Costs()

    def run(self, computation: Computation, times: int) -> None:
        """Adds what a computation costs that runs so many times, outside of fusions."""
        for line in computation.instructions.values():
            self.costs.memory_bytes += times * moved_bytes(self._program, computation, line)
            self.costs.kernels += 0 if is_free(line) else times
            self._arithmetic(computation, line, times)
            if line.opcode == "while":
                often = times * trip_count(self._program, computation, line)
                (body,), (condition,) = line.called["body"], line.called["condition"]
                self.run(self._program.computations[body], often)
                self.run(self._program.computations[condition], often)
            elif line.opcode in ("call", "conditional", "async-start"):
                # Of a conditional all branches: an upper bound.
                for name in itertools.chain(*line.called.values()):
                    self.run(self._program.computations[name], times)

    def _arithmetic(self, computation: Computation, line: Instruction, times: int) -> None:
        costs = self.costs
        kind = kind_of(line)
        if line.opcode in _PRODUCTS:
            left, right = (operand.shapes[0] for operand in computation.operands_of(line))
            flops = times * product_flops(line, left, right)
            costs.product_flops += flops
            costs.pass_flops += flops * passes_of(line, left, right)
        elif line.opcode in _ELEMENTWISE:
            costs.elementwise_flops += times * line.shapes[0].size
        elif line.opcode == "reduce":
            operands = computation.operands_of(line)
            costs.elementwise_flops += times * operands[0].shapes[0].size
        elif line.opcode == "fusion":
            (name,) = line.called["calls"]
            inner, is_piece = self._program.computations[name], goes_on(line)
            for deeper in inner.instructions.values():
                if not (is_piece and kind_of(deeper)):
                    self._arithmetic(inner, deeper, times)
        elif kind is not None:
            operands = computation.operands_of(line)
            size = sum(shape.bytes for operand in operands for shape in operand.shapes)
            found = read_collective(line, kind, size, times, self._num_chips)
            costs.collectives.append(found)

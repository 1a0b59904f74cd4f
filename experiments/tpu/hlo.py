"""Reads the text of a compiled program: computations, their instructions, shapes and layouts."""

from __future__ import annotations

import dataclasses
import functools
import math
import re
from collections.abc import Iterator, Mapping

# Bits of an element; tokens and opaque handles hold none.
_BITS = {
    "pred": 8,
    **{f"{kind}{bits}": bits for kind in "su" for bits in (2, 4, 8, 16, 32, 64)},
    **{"bf16": 16, "f16": 16, "f32": 32, "f64": 64, "c64": 64, "c128": 128},
    **{"token": 0, "opaque": 0},
}
_FLOAT8 = re.compile(r"f8e\w+")
_SHAPE = re.compile(r"([a-z]\w*)\[([\d,]*)\](?:\{([^}]*)\})?")
_TILE = re.compile(r"T\(([\d,]+)\)")
_SPACE = re.compile(r"S\((\d+)\)")
_COMPUTATION = re.compile(r"^(ENTRY )?%?([^\s(]+) \(.*\{$")
_INSTRUCTION = re.compile(r"^\s+(ROOT )?%?([^\s=]+) = (.*)$")
_OPCODE = re.compile(r"\s*([a-z][\w-]*)\(")
_NAME = re.compile(r"%([^\s,(){}]+)")
_OP_NAME = re.compile(r'op_name="([^"]*)"')
_CALLED = re.compile(r"(\w+)=(?:%([^\s,]+)|\{(%[^}]*)\})")


@dataclasses.dataclass(frozen=True)
class ArrayShape:
    """An array as the program lays it out.

    Attributes:
      dtype: XLA's name of the type of its elements.
      dims: its axes.
      minor_to_major: axes, the one whose neighbors lie next to each other first.
      tile: the last axes are padded to multiples of these, in the order of the layout.
      space: memory space; 0 is the main memory of the chip, 1 the one beside its processor.
    """

    dtype: str
    dims: tuple[int, ...]
    minor_to_major: tuple[int, ...] = ()
    tile: tuple[int, ...] = ()
    space: int = 0

    @property
    def size(self) -> int:
        """Number of elements without padding."""
        return math.prod(self.dims)

    @property
    def bytes(self) -> int:
        """Bytes without padding."""
        return self.size * self._bits // 8

    @property
    def laid_out_bytes(self) -> int:
        """Bytes with the padding of its tiles."""
        order = self.minor_to_major or tuple(reversed(range(len(self.dims))))
        dims = [self.dims[axis] for axis in order]
        tile = self.tile[::-1]
        dims += [1] * (len(tile) - len(dims))
        rounded = [
            -(-dim // tile[place]) * tile[place] if place < len(tile) else dim
            for place, dim in enumerate(dims)
        ]
        return math.prod(rounded) * self._bits // 8

    @property
    def _bits(self) -> int:
        if _FLOAT8.fullmatch(self.dtype):
            return 8
        if self.dtype not in _BITS:
            raise ValueError(f"an array of the unknown type {self.dtype!r} in the program")
        return _BITS[self.dtype]


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One line of a computation.

    Attributes:
      name: without the percent sign.
      opcode: such as `fusion`.
      shape_text: type and layout of what it gives.
      operands: names of instructions of the same computation.
      content: what stands between the parentheses, for constants and parameters.
      attributes: the rest of the line.
      is_root: whether it is what the computation gives.
    """

    name: str
    opcode: str
    shape_text: str
    operands: tuple[str, ...]
    content: str
    attributes: str
    is_root: bool

    @functools.cached_property
    def shapes(self) -> tuple[ArrayShape, ...]:
        """What it gives; of a tuple all arrays, nested ones too, one after another."""
        return tuple(_parse_shape(match) for match in _SHAPE.finditer(self.shape_text))

    @functools.cached_property
    def called(self) -> dict[str, tuple[str, ...]]:
        """Computations that it names, by attribute (`calls`, `body`, `condition`, ...)."""
        found: dict[str, tuple[str, ...]] = {}
        for key, one, many in _CALLED.findall(self.attributes):
            found[key] = (one,) if one else tuple(_NAME.findall(many))
        return found

    @property
    def source(self) -> str:
        """Where in the model it comes from, as jax names it; empty where XLA added it."""
        match = _OP_NAME.search(self.attributes)
        return match[1] if match else ""

    def attribute(self, name: str) -> str | None:
        """The text of an attribute whose value stands in braces or has no comma; None without."""
        match = re.search(rf"[ ,]{name}=(\{{.*?\}}(?=,|$)|[^,\s]+)", " " + self.attributes)
        return match[1] if match else None


@dataclasses.dataclass(frozen=True)
class Computation:
    """Instructions in the order in which they run.

    Attributes:
      name: without the percent sign.
      instructions: by name.
    """

    name: str
    instructions: Mapping[str, Instruction]

    @functools.cached_property
    def root(self) -> Instruction:
        """What it gives."""
        return next(line for line in self.instructions.values() if line.is_root)

    @functools.cached_property
    def parameters(self) -> dict[int, Instruction]:
        """Its parameters by number."""
        lines = self.instructions.values()
        return {int(line.content): line for line in lines if line.opcode == "parameter"}

    @functools.cached_property
    def users(self) -> dict[str, list[Instruction]]:
        """For every instruction those that read it."""
        found: dict[str, list[Instruction]] = {name: [] for name in self.instructions}
        for line in self.instructions.values():
            for operand in dict.fromkeys(line.operands):
                found[operand].append(line)
        return found

    def operands_of(self, line: Instruction) -> list[Instruction]:
        """The instructions that it reads, in order."""
        return [self.instructions[name] for name in line.operands]


@dataclasses.dataclass(frozen=True)
class Program:
    """A compiled program.

    Attributes:
      computations: by name.
      entry: the name of the one that runs.
    """

    computations: Mapping[str, Computation]
    entry: str

    def __iter__(self) -> Iterator[Instruction]:
        """All instructions of all computations."""
        for computation in self.computations.values():
            yield from computation.instructions.values()


def parse_program(text: str) -> Program:
    """Reads what `Compiled.as_text()` gives.

    Raises:
      ValueError: there is no entry computation, or a line cannot be read.
    """
    computations: dict[str, Computation] = {}
    entry, name, lines = None, None, dict[str, Instruction]()
    for line in text.splitlines():
        header = None if line.startswith(" ") else _COMPUTATION.match(line)
        if header:
            name, lines = header[2], {}
            entry = name if header[1] else entry
        elif line.startswith("}") and name is not None:
            computations[name], name = Computation(name, lines), None
        elif name is not None and (match := _INSTRUCTION.match(line)):
            found = _parse_instruction(match[2], match[3], is_root=bool(match[1]))
            lines[found.name] = found
    if entry is None:
        raise ValueError("the text is not that of a compiled program: it has no ENTRY")
    return Program(computations, entry)


def _parse_instruction(name: str, text: str, is_root: bool) -> Instruction:
    end = _closing(text, 0) + 1 if text.startswith("(") else text.index(" ")
    opcode = _OPCODE.match(text, end)
    if opcode is None:
        raise ValueError(f"cannot read the instruction %{name} = {text[:200]}")
    last = _closing(text, opcode.end() - 1)
    content = text[opcode.end() : last]
    return Instruction(
        name=name,
        opcode=opcode[1],
        shape_text=text[:end],
        operands=tuple(_NAME.findall(content)),
        content=content,
        attributes=text[last + 1 :].lstrip(", "),
        is_root=is_root,
    )


def _closing(text: str, start: int) -> int:
    """Where the parenthesis that opens at `start` closes."""
    depth = 0
    for position in range(start, len(text)):
        depth += {"(": 1, ")": -1}.get(text[position], 0)
        if depth == 0:
            return position
    raise ValueError(f"a parenthesis is not closed in {text[:200]}")


def _parse_shape(match: re.Match[str]) -> ArrayShape:
    dtype, dims, layout = match[1], match[2], match[3] or ""
    order, _, rest = layout.partition(":")
    tile, space = _TILE.search(rest), _SPACE.search(rest)
    return ArrayShape(
        dtype=dtype,
        dims=_numbers(dims),
        minor_to_major=_numbers(order),
        tile=_numbers(tile[1]) if tile else (),
        space=int(space[1]) if space else 0,
    )


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in text.split(",") if number)

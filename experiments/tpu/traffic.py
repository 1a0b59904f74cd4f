"""Bytes that an instruction of a compiled program moves to and from the main memory of the chip.

Each array is counted once, as it is laid out, padding included. What lies in the memory beside the
processor (another memory space) costs nothing, and of an array of which a part is read or replaced
only that part counts. A kernel that reads an array several times is counted as if it read it once:
a lower bound.
"""

from __future__ import annotations

from experiments.tpu.hlo import ArrayShape, Computation, Instruction, Program

_MAIN_MEMORY = 0
# Give another view of what is there, or say what runs elsewhere in the program.
_FREE = {
    "add-dependency",
    "after-all",
    "async-start",
    "async-update",
    "bitcast",
    "call",
    "conditional",
    "constant",
    "get-tuple-element",
    "opt-barrier",
    "parameter",
    "partition-id",
    "replica-id",
    "tuple",
    "while",
}
# Custom calls that only name a piece of memory or promise something.
_FREE_TARGETS = {"AllocateBuffer", "AssumeGatherIndicesInBound", "ConcatBitcast"}
_VIEWS = {"bitcast", "reshape"}
_READS_ITS_SIZE = {"slice", "dynamic-slice", "gather", "slice-start"}
_REPLACED = {"dynamic-update-slice": 1, "scatter": 2}  # which operand holds what is written


def is_free(line: Instruction) -> bool:
    """Whether an instruction does no work of its own."""
    if line.opcode == "custom-call":
        return (line.attribute("custom_call_target") or "").strip('"') in _FREE_TARGETS
    return line.opcode in _FREE or line.opcode.endswith("-done")


def moved_bytes(program: Program, computation: Computation, line: Instruction) -> int:
    """Bytes that an instruction outside of fusions reads from and writes to main memory.

    Args:
      program: of the instruction.
      computation: of the instruction.
      line: the instruction; what it calls in turn is not in the sum, unless it is a fusion.
    """
    if is_free(line):
        return 0
    if line.opcode == "copy-start":  # what it gives: the copy, the original, a flag
        return sum(map(_in_main_memory, line.shapes[:2]))
    if line.opcode == "slice-start":  # the original, the slice, a flag
        return _part_of(line.shapes[0], line.shapes[1]) + _in_main_memory(line.shapes[1])
    if line.opcode == "fusion":
        (name,) = line.called["calls"]
        return _fusion_bytes(program, program.computations[name], computation, line)
    operands = computation.operands_of(line)
    if line.opcode in _REPLACED:
        part = operands[_REPLACED[line.opcode]].shapes[0]
        read = [operand.shapes[0] for operand in operands[1:]]
        return sum(map(_in_main_memory, read)) + _part_of(line.shapes[0], part)
    written = sum(map(_in_main_memory, line.shapes))
    if line.opcode in _READS_ITS_SIZE:
        read = [operand.shapes[0] for operand in operands[1:]]
        taken = _part_of(operands[0].shapes[0], line.shapes[0])
        return written + taken + sum(map(_in_main_memory, read))
    return written + sum(_in_main_memory(s) for operand in operands for s in operand.shapes)


def _fusion_bytes(
    program: Program, inner: Computation, outer: Computation, line: Instruction
) -> int:
    total = 0
    for number, operand in enumerate(outer.operands_of(line)):
        whole = sum(map(_in_main_memory, operand.shapes))
        if whole:
            total += min(whole, _read_of(program, inner, inner.parameters[number].name))
    root = inner.root
    results = inner.operands_of(root) if root.opcode == "tuple" else [root] * len(line.shapes)
    # The layouts that count are those at the border of the fusion.
    for result, shape in zip(results, line.shapes, strict=True):
        total += _written_by(program, inner, result, shape)
    return total


def _read_of(program: Program, inner: Computation, name: str) -> int:
    """Bytes of an input of a fusion that the instructions inside it need."""
    source, total = inner.instructions[name], 0
    for user in inner.users[name]:
        first = user.operands[0] == name
        if user.opcode in _VIEWS:
            total += _read_of(program, inner, user.name)
        elif user.opcode in _READS_ITS_SIZE and first:
            total += user.shapes[0].laid_out_bytes
        elif user.opcode in _REPLACED and first:
            total += 0  # stays where it is
        elif user.opcode == "fusion":
            (called,) = user.called["calls"]
            deeper = program.computations[called]
            places = [place for place, operand in enumerate(user.operands) if operand == name]
            for place in places:
                total += _read_of(program, deeper, deeper.parameters[place].name)
        else:
            return sum(shape.laid_out_bytes for shape in source.shapes)
    return total


def _written_by(
    program: Program, inner: Computation, result: Instruction, shape: ArrayShape
) -> int:
    """Bytes of a result of a fusion that are written: of an array in place only what is new."""
    while result.opcode in _VIEWS:
        (result,) = inner.operands_of(result)
    if result.opcode == "fusion":
        (called,) = result.called["calls"]
        deeper = program.computations[called]
        if deeper.root.opcode != "tuple":
            return _written_by(program, deeper, deeper.root, shape)
    if result.opcode in _REPLACED:
        part = inner.operands_of(result)[_REPLACED[result.opcode]].shapes[0]
        return _part_of(shape, part)
    return _in_main_memory(shape)


def _in_main_memory(shape: ArrayShape) -> int:
    return shape.laid_out_bytes if shape.space == _MAIN_MEMORY else 0


def _part_of(whole: ArrayShape, part: ArrayShape) -> int:
    """Bytes of a part of an array, where that array lies in main memory."""
    return min(part.laid_out_bytes, _in_main_memory(whole))

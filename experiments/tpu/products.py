"""Multiplications of the matrix products and convolutions of a compiled program.

On TPUs XLA turns matrix products into convolutions, batch axes into spatial ones that are dilated
so that only one place of the window holds a number. Such places, and padding, cost nothing here,
as in XLA's own analysis.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

import numpy as np

from experiments.tpu.hlo import ArrayShape, Instruction

# bfloat16 passes of the matrix unit for a product of float32 numbers, by the precision asked for.
PASSES = {"default": 1, "high": 3, "highest": 6}


def product_flops(line: Instruction, left: ArrayShape, right: ArrayShape) -> float:
    """Two for each multiplication and addition of a `dot` or `convolution`.

    Args:
      line: the instruction.
      left: its first operand.
      right: its second operand.
    """
    if line.opcode == "dot":
        contracted = _list_of(line.attribute("lhs_contracting_dims"))
        return 2.0 * line.shapes[0].size * math.prod(left.dims[axis] for axis in contracted)
    return _convolution_flops(line, left, right)


def passes_of(line: Instruction, left: ArrayShape, right: ArrayShape) -> int:
    """How many bfloat16 products the matrix unit computes for one product."""
    if "f32" not in (left.dtype, right.dtype):
        return 1
    asked = re.findall(r"[a-z]+", line.attribute("operand_precision") or "default")
    return max(PASSES[name] for name in asked)


def _convolution_flops(line: Instruction, left: ArrayShape, right: ArrayShape) -> float:
    label, kernel_label, result_label = re.split("_|->", line.attribute("dim_labels") or "")
    window = _window(line.attribute("window"))
    places = 1
    for axis in sorted(set(label) - set("bf")):
        place = int(axis)
        places *= _valid_places(
            size=left.dims[label.index(axis)],
            kernel=right.dims[kernel_label.index(axis)],
            results=line.shapes[0].dims[result_label.index(axis)],
            stride=window.get("stride", {}).get(place, 1),
            low=window.get("pad", {}).get(place, 0),
            dilation=window.get("lhs_dilate", {}).get(place, 1),
            kernel_dilation=window.get("rhs_dilate", {}).get(place, 1),
        )
    inputs = left.dims[label.index("f")] // int(line.attribute("feature_group_count") or 1)
    batch = left.dims[label.index("b")] // int(line.attribute("batch_group_count") or 1)
    return 2.0 * inputs * right.dims[kernel_label.index("o")] * batch * places


def _window(text: str | None) -> Mapping[str, Mapping[int, int]]:
    """Fields of `{size=3x1 pad=1_1x0_0}` by spatial axis; of a padding what is below."""
    fields = {}
    for field in (text or "").strip("{}").split():
        name, _, values = field.partition("=")
        parts = (value.partition("_")[0] for value in values.split("x"))
        fields[name] = {axis: int(part) for axis, part in enumerate(parts)}
    return fields


def _valid_places(
    *,
    size: int,
    kernel: int,
    results: int,
    stride: int,
    low: int,
    dilation: int,
    kernel_dilation: int,
) -> int:
    """Pairs of a result and a place of the kernel that meet a number, not padding or a gap."""
    begin = np.arange(results, dtype=np.int64) * stride - low
    last = (size - 1) * dilation
    if kernel_dilation != 1:
        places = begin[:, None] + np.arange(kernel) * kernel_dilation
        return int(((places >= 0) & (places <= last) & (places % dilation == 0)).sum())
    first_met = -(-np.maximum(begin, 0) // dilation)
    last_met = np.minimum(begin + kernel - 1, last) // dilation
    return int(np.maximum(last_met - first_met + 1, 0).sum())


def _list_of(text: str | None) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", text or "")]

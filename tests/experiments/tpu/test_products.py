from __future__ import annotations

import itertools

import pytest

from experiments.tpu.hlo import parse_program
from experiments.tpu.products import passes_of, product_flops
from tests.experiments.tpu.programs import entry


def read(left, right, result, attributes, opcode="convolution"):
    program = parse_program(
        entry(
            f"%a = {left} parameter(0)",
            f"%b = {right} parameter(1)",
            f"%c = {result} {opcode}(%a, %b), {attributes}",
        )
    )
    main = program.computations["main"]
    return main.root, *(operand.shapes[0] for operand in main.operands_of(main.root))


@pytest.mark.parametrize(
    ("left", "right", "result", "attributes", "multiplications"),
    [
        ("f32[7,3]", "f32[3,5]", "f32[7,5]", "dim_labels=bf_io->bf", 7 * 3 * 5),
        # A batch of 6 products [7, 3] x [3, 5], as XLA writes it for TPUs.
        (
            "f32[6,7,3]",
            "f32[6,3,5]",
            "f32[6,7,5]",
            "window={size=6 stride=5 lhs_dilate=6}, dim_labels=0bf_0io->0bf",
            6 * 7 * 3 * 5,
        ),
        # Padding costs nothing: a full product of two rows of numbers.
        (
            "f32[1,4,1]",
            "f32[3,1,1]",
            "f32[1,6,1]",
            "window={size=3 pad=2_2 rhs_reversal=1}, dim_labels=b0f_0io->b0f",
            12,
        ),
        # Four groups of two features.
        ("f32[7,8]", "f32[2,8]", "f32[7,8]", "dim_labels=bf_io->bf, feature_group_count=4", 112),
    ],
)
def test_multiplications_of_a_convolution(left, right, result, attributes, multiplications):
    line, *operands = read(left, right, result, attributes)
    assert product_flops(line, *operands) == 2 * multiplications


def test_multiplications_of_a_product():
    line, *operands = read(
        "f32[6,7,3]",
        "f32[6,3,5]",
        "f32[6,7,5]",
        "lhs_batch_dims={0}, lhs_contracting_dims={2}, rhs_batch_dims={0}, "
        "rhs_contracting_dims={1}",
        opcode="dot",
    )
    assert product_flops(line, *operands) == 2 * 6 * 7 * 3 * 5


@pytest.mark.parametrize(
    ("stride", "low", "high", "dilation", "kernel_dilation"),
    list(itertools.product((1, 2), (0, 3), (0, 2), (1, 3), (1, 2))),
)
def test_places_that_meet_a_number_are_counted_one_by_one(
    stride, low, high, dilation, kernel_dilation
):
    size, kernel = 7, 4
    length = low + (size - 1) * dilation + 1 + high
    results = (length - (kernel - 1) * kernel_dilation - 1) // stride + 1
    numbers = {low + place * dilation for place in range(size)}
    expected = sum(
        result * stride + place * kernel_dilation in numbers
        for result in range(results)
        for place in range(kernel)
    )
    line, *operands = read(
        f"f32[{size},1,1]",
        f"f32[{kernel},1,1]",
        f"f32[{results},1,1]",
        f"window={{size={kernel} stride={stride} pad={low}_{high} lhs_dilate={dilation} "
        f"rhs_dilate={kernel_dilation}}}, dim_labels=0bf_0io->0bf",
    )
    assert product_flops(line, *operands) == 2 * expected


@pytest.mark.parametrize(
    ("dtype", "precision", "passes"),
    [
        ("f32", "operand_precision={highest,highest}", 6),
        ("f32", "operand_precision={high,high}", 3),
        ("f32", "", 1),
        ("bf16", "operand_precision={highest,highest}", 1),
    ],
)
def test_float32_products_take_several_passes(dtype, precision, passes):
    line, *operands = read(
        f"{dtype}[7,3]", f"{dtype}[3,5]", "f32[7,5]", f"dim_labels=bf_io->bf, {precision}"
    )
    assert passes_of(line, *operands) == passes

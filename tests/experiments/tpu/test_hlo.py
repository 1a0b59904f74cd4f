from __future__ import annotations

import pytest

from experiments.tpu.hlo import ArrayShape, parse_program
from tests.experiments.tpu.programs import LOOP, entry


@pytest.fixture(scope="module")
def program():
    return parse_program(LOOP)


def test_computations_and_the_entry_are_found(program):
    assert set(program.computations) == {"sum", "product", "keep", "body", "condition", "main"}
    assert program.entry == "main"
    assert program.computations["main"].root.opcode == "all-reduce"


def test_instructions_know_what_they_read_and_call(program):
    main = program.computations["main"]
    loop = main.instructions["while"]
    assert loop.operands == ("tuple",)
    assert loop.called == {"condition": ("condition",), "body": ("body",)}
    assert loop.source == "jit(step)/while"
    body = program.computations["body"]
    assert body.instructions["row"].called["calls"] == ("product",)
    assert [line.name for line in body.operands_of(body.instructions["row"])] == [
        "stack", "count", "weights",
    ]  # fmt: skip
    assert {line.name for line in body.users["count"]} == {"next", "row", "update"}


def test_attributes_are_read_by_name(program):
    product = program.computations["product"].instructions["dot"]
    assert product.attribute("dim_labels") == "bf_io->bf"
    assert product.attribute("operand_precision") == "{highest,highest}"
    assert product.attribute("window") is None


def test_shapes_have_layout_tiles_and_memory(program):
    start = program.computations["main"].instructions["copy-start"]
    near, far, flag = start.shapes
    assert near == ArrayShape("f32", (128, 128), (1, 0), (8, 128), space=1)
    assert far.space == 0
    assert flag.dims == ()


@pytest.mark.parametrize(
    ("text", "plain", "laid_out"),
    [
        ("f32[320,5,32]{0,2,1:T(8,128)S(1)}", 320 * 5 * 32 * 4, 384 * 5 * 32 * 4),
        ("bf16[24,3]{1,0:T(8,128)(2,1)}", 24 * 3 * 2, 24 * 128 * 2),
        ("f32[]{:T(128)}", 4, 512),
        ("pred[320]{0:T(512)(128)(4,1)}", 320, 512),
        ("s32[7]", 28, 28),
        ("f8e4m3fn[16]{0}", 16, 16),
    ],
)
def test_bytes_with_and_without_the_padding_of_tiles(text, plain, laid_out):
    program = parse_program(entry(f"%x = {text} parameter(0)"))
    (shape,) = program.computations["main"].root.shapes
    assert (shape.bytes, shape.laid_out_bytes) == (plain, laid_out)


def test_what_is_no_program_is_told():
    with pytest.raises(ValueError, match="no ENTRY"):
        parse_program("hello")
    with pytest.raises(ValueError, match="unknown type 'q7'"):
        _ = (
            parse_program(entry("%x = q7[3] parameter(0)"))
            .computations["main"]
            .root.shapes[0]
            .bytes
        )

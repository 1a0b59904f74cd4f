from __future__ import annotations

import pytest

from experiments.tpu.costs import count_costs
from experiments.tpu.hlo import parse_program
from tests.experiments.tpu.programs import LOOP, entry

BLOCK = 8 * 128 * 4
SCALAR = 512  # a number as laid out


@pytest.fixture(scope="module")
def costs():
    return count_costs(parse_program(LOOP), num_chips=8)


def test_products_in_loops_count_as_often_as_they_run(costs):
    assert costs.product_flops == 5 * 2 * 8 * 128 * 128
    assert costs.pass_flops == 6 * costs.product_flops
    assert costs.elementwise_flops == 5 * 2  # the counter: an addition and a comparison


def test_traffic_is_what_is_read_and_written_in_main_memory(costs):
    weights = 128 * 128 * 4  # read once; the copy lies beside the processor
    loop = 5 * 2 * BLOCK  # one row of the stack is read, one is written
    reduced = 2 * 5 * BLOCK
    assert costs.memory_bytes == weights + loop + reduced


def test_an_all_reduce_sends_twice_all_but_its_own_share(costs):
    (collective,) = costs.collectives
    assert (collective.kind, collective.group, collective.times) == ("all-reduce", 8, 1)
    assert costs.interconnect_bytes == pytest.approx(2 * 7 / 8 * 5 * BLOCK)


def test_kernels_are_counted(costs):
    assert costs.kernels == 1 + 1 + 5 * (1 + 1 + 1 + 1)  # copy, sum; add, compare, two fusions


def collective_of(shape, result, opcode, attributes, num_chips=8):
    text = entry(f"%x = {shape} parameter(0)", f"%y = {result} {opcode}(%x), {attributes}")
    (found,) = count_costs(parse_program(text), num_chips).collectives
    return found


@pytest.mark.parametrize(
    ("shape", "result", "opcode", "attributes", "group", "sent"),
    [
        # Each of four chips holds 100 numbers and gets 300.
        ("f32[100]", "f32[400]", "all-gather", "replica_groups={{0,1,2,3},{4,5,6,7}}", 4, 1200),
        ("f32[400]", "f32[100]", "reduce-scatter", "replica_groups=[2,4]<=[8]", 4, 1200),
        ("f32[100]", "f32[100]", "all-reduce", "replica_groups={}", 8, 700),
        ("f32[100]", "f32[100]", "all-reduce", "replica_groups={{0},{1}}", 1, 0),
        ("bf16[100]", "bf16[100]", "collective-permute", "source_target_pairs={{0,1}}", 8, 200),
        ("f32[400]", "(f32[400], f32[400])", "all-reduce-start", "replica_groups=[1,8]", 8, 2800),
        ("f32[400]", "f32[400]", "all-reduce", "replica_groups=mesh['x'=4,'y'=2] {'x'}", 4, 2400),
    ],
)
def test_bytes_that_a_chip_sends(shape, result, opcode, attributes, group, sent):
    found = collective_of(shape, result, opcode, attributes)
    assert (found.group, found.sent_bytes) == (group, sent)


def test_the_pieces_of_a_collective_beside_other_work_are_one():
    piece = """%{name} (x: f32[100]) -> f32[800] {{
  %x = f32[100]{{0}} parameter(0)
  ROOT %gather = f32[800]{{0}} all-gather(%x), replica_groups=[1,8]<=[8], dimensions={{0}}
}}

"""
    names = ("fused_computation.1", "async_collective_fusion.2", "fused_computation.3")
    main = entry(
        "%x = f32[100]{0} parameter(0)",
        "%async-collective-start = f32[800]{0} fusion(%x), kind=kCustom, calls=%" + names[0],
        "%fusion.2 = f32[800]{0} fusion(%x), kind=kOutput, calls=%" + names[1],
        "%async-collective-done = f32[800]{0} fusion(%x), kind=kCustom, calls=%" + names[2],
    )
    text = "".join(piece.format(name=name) for name in names) + main
    (found,) = count_costs(parse_program(text), num_chips=8).collectives
    assert found.sent_bytes == 7 * 400


def test_other_instructions_move_what_they_read_and_write():
    text = entry(
        "%x = f32[1024]{0:T(1024)} parameter(0)",
        "%near = f32[1024]{0:T(1024)S(1)} copy(%x)",
        '%buffer = f32[1024]{0:T(1024)} custom-call(), custom_call_target="AllocateBuffer"',
        "%some = f32[128]{0:T(128)} slice(%x), slice={[0:128]}",
        "%y = f32[1024]{0:T(1024)} add(%x, %near)",
    )
    costs = count_costs(parse_program(text), num_chips=1)
    assert costs.memory_bytes == 4096 + 2 * 512 + 2 * 4096


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("direction=LT", "direction=GT"),
        ("%limit = s32[]{:T(128)S(1)} constant(5)", "%limit = s32[]{:T(128)S(1)} parameter(1)"),
        ("%one = s32[]{:T(128)S(1)} constant(1)", "%one = s32[]{:T(128)S(1)} constant(2)"),
        ("%start = s32[]{:T(128)S(1)} constant(0)", "%start = s32[]{:T(128)S(1)} iota()"),
    ],
)
def test_a_loop_that_cannot_be_counted_is_named(old, new):
    assert old in LOOP
    program = parse_program(LOOP.replace(old, new))
    with pytest.raises(ValueError, match=r"how often the loop %while \(jit\(step\)/while\) runs"):
        count_costs(program, num_chips=8)


def test_what_xla_says_of_a_loop_is_taken():
    text = LOOP.replace("body=%body,", 'body=%body, backend_config={"known_trip_count":{"n":"3"}},')
    assert count_costs(parse_program(text), 8).product_flops == 3 * 2 * 8 * 128 * 128

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest

from equiformer_jax.training.mesh_settings import MeshSettings
from experiments.tpu.checks import check_collectives, check_program, check_traced
from experiments.tpu.collectives import Collective
from experiments.tpu.hlo import parse_program
from tests.experiments.tpu.programs import LOOP, entry


def test_a_clean_program_has_no_problems():
    assert check_program(parse_program(LOOP)) == []


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('%y = f64[3] negate(%x), metadata={op_name="jit(step)/neg"}', "float64: %y = negate in"),
        ("%y = ((f32[3]), token[]) infeed(%x)", "host transfer: %y = infeed"),
        ("%y = token[] outfeed(%x)", "host transfer: %y = outfeed"),
        ("%y = (f32[3], u32[]) send(%x), is_host_transfer=true", "host transfer: %y = send"),
        (
            '%y = f32[3] custom-call(%x), custom_call_target="xla_ffi_python_cpu_callback"',
            "host transfer: %y = custom-call",
        ),
        ("%y = f32[3]{0:T(128)S(5)} copy(%x)", "host transfer: %y = copy"),
    ],
)
def test_what_must_not_be_there_is_named(line, problem):
    (found,) = check_program(parse_program(entry("%x = f32[3] parameter(0)", line)))
    assert found.startswith(problem)


def test_sending_to_other_chips_is_no_host_transfer():
    text = entry("%x = f32[3] parameter(0)", "%y = (f32[3], u32[]) send(%x), channel_id=1")
    assert check_program(parse_program(text)) == []


def test_float64_is_found_before_xla_takes_it_apart():
    def step(x):
        with jax.named_scope("inner"):
            return x.astype(jnp.float64).sum().astype(jnp.float32)

    def looped(x):
        return jax.lax.scan(lambda c, _: (c + step(x), None), jnp.float32(0), length=2)[0]

    for function in (step, looped):
        traced = jax.jit(function).trace(jnp.ones(3, jnp.float32))
        assert "float64: convert_element_type in inner" in check_traced(traced.jaxpr)

    def clean(x):
        return jax.nn.relu(x)

    assert check_traced(jax.jit(clean).trace(jnp.ones(3, jnp.float32)).jaxpr) == []


def test_gathering_more_than_the_parameters_is_named():
    gather = Collective("all-gather", "gather.1", "jit(step)/add", times=2, group=8, payload=100)
    summed = Collective("all-reduce", "sum.1", "", times=1, group=8, payload=10**6)
    assert check_collectives([gather, summed], 10**6, MeshSettings(shard_optimizer=True)) == []
    (problem,) = check_collectives([gather, summed], 10**6, MeshSettings())
    assert problem == "unexpected all-gather: %gather.1 of 100 bytes, 2 times in jit(step)/add"


def test_summing_more_than_the_gradient_is_named():
    """As where a batch that a partitioner has lost track of is put together by sums."""
    gradient = Collective("all-reduce", "sum.1", "", times=1, group=64, payload=10**6)
    batch = Collective("all-reduce", "sum.2", "jit(step)/take", times=3, group=64, payload=10**5)
    assert check_collectives([gradient], 10**6, MeshSettings()) == []
    problems = check_collectives([gradient, batch], 10**6, MeshSettings())
    assert "unexpected all-reduce: %sum.2 of 100,000 bytes, 3 times in jit(step)/take" in problems
    # The parameters are allowed for, and sums over edges.
    for settings in (MeshSettings(shard_optimizer=True), MeshSettings(edge_parts=2)):
        assert check_collectives([gradient, batch], 10**6, settings) == []

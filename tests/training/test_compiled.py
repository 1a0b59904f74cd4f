from __future__ import annotations

import gc

import jax
import jax.numpy as jnp
import pytest

from equiformer_jax.training.compiled import CompiledPerShape, compile_for


def test_each_shape_is_compiled_once_and_announced_before_it_runs():
    traces, lines = [], []

    @jax.jit
    def double(scale, values):
        traces.append(values.shape)
        return scale * values

    compiled = CompiledPerShape(double, "doubling", lines.append)
    for size in (3, 3, 5, 3, 5):
        assert compiled(jnp.float32(2), jnp.ones(size)).tolist() == [2.0] * size
    assert traces == [(3,), (5,)]
    assert compiled.count == 2
    assert compiled.seconds > 0
    assert [line.split(" ")[0] for line in lines] == ["compiling", "compiled"] * 2
    assert "doubling" in lines[1]
    assert "MiB" in lines[1]


def test_the_garbage_collector_rests_while_a_function_is_traced_and_works_again_behind_it():
    rested = []

    @jax.jit
    def double(values):
        rested.append(not gc.isenabled())
        if len(values) == 1:
            raise ValueError("too short")
        return 2 * values

    assert compile_for(double, jnp.ones(2))(jnp.ones(2)).tolist() == [2.0, 2.0]
    assert gc.isenabled()
    with pytest.raises(ValueError, match="too short"):
        compile_for(double, jnp.ones(1))
    assert gc.isenabled()
    assert rested == [True, True]

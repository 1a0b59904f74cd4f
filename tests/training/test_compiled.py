from __future__ import annotations

import jax
import jax.numpy as jnp

from equiformer_jax.training.compiled import CompiledPerShape


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

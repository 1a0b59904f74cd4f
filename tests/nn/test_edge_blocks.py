from __future__ import annotations

import flax.linen as nn
import jax
import numpy as np
import pytest

from equiformer_jax.nn.edge_blocks import map_edge_blocks

EDGES = 7


class Messages(nn.Module):
    """A dense layer of what edges hold, in blocks."""

    block_size: int | None

    @nn.compact
    def __call__(self, x, y):
        def send(dense, edges):
            merged, (other,) = edges
            return dense(merged), None, other.sum(axis=1)

        return map_edge_blocks(send, nn.Dense(3, name="dense"), (x, (y,)), self.block_size)


@pytest.mark.parametrize("block_size", [1, 3, 6, EDGES, 100])
def test_blocks_of_any_size_give_what_all_edges_give(block_size):
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=(EDGES, 4)), generator.normal(size=(EDGES, 2, 5))
    whole, blocked = Messages(None), Messages(block_size)
    variables = whole.init(jax.random.key(0), x, y)
    again = blocked.init(jax.random.key(0), x, y)
    jax.tree.map(np.testing.assert_array_equal, again, variables)
    wanted, found = whole.apply(variables, x, y), blocked.apply(variables, x, y)
    assert found[1] is None
    np.testing.assert_allclose(found[0], wanted[0], rtol=1e-13)
    np.testing.assert_allclose(found[2], wanted[2], rtol=1e-13)

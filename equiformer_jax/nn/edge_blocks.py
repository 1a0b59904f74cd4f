"""Work on edges in blocks, so that what is made on the way never exists for all edges at once.

A block's intermediates are several times larger than what goes in and comes out. They live while
the block is worked on, in the forward pass and again in each backward pass, which recomputes them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from equiformer_jax.nn.recomputation import recomputed

_Module = TypeVar("_Module", bound=nn.Module)


def count_blocks(num_edges: int, block_size: int | None) -> int:
    """How many blocks so many edges make; one without a block size."""
    return 1 if block_size is None else max(1, -(-num_edges // block_size))


def map_edge_blocks(
    function: Callable[[_Module, Any], Any], module: _Module, edges: Any, block_size: int | None
) -> Any:
    """Applies a function that treats every edge on its own.

    The result is the same with and without blocks.

    Args:
      function: `function(module, edges)`; it may read parameters of the module, and draws no random
        numbers.
      module: whose parameters are read.
      edges: arrays `[E, ...]`, nested in tuples.
      block_size: where there are more edges, at most so many are worked on at a time, and nothing
        is kept for the backward pass but what goes in; fewer edges, and all with `None`, are worked
        on at once.

    Returns:
      What the function returns, arrays `[E, ...]`.
    """
    num_edges = jax.tree.leaves(edges)[0].shape[0]
    num_blocks = count_blocks(num_edges, block_size)
    if num_blocks == 1:
        return function(module, edges)
    rows = -(-num_edges // num_blocks)

    def split(x: jax.Array) -> jax.Array:
        # Rows of zeros: every function of an edge is smooth there, and their results are cut off.
        padding = [(0, num_blocks * rows - num_edges)] + [(0, 0)] * (x.ndim - 1)
        return jnp.pad(x, padding).reshape(num_blocks, rows, *x.shape[1:])

    def join(x: jax.Array) -> jax.Array:
        return x.reshape(num_blocks * rows, *x.shape[2:])[:num_edges]

    def body(module: _Module, carry: tuple, block: Any) -> tuple[tuple, Any]:
        return carry, function(module, block)

    scan = nn.scan(
        recomputed(body, in_loop=True),
        variable_broadcast="params",
        split_rngs={"params": False},
    )
    _, results = scan(module, (), jax.tree.map(split, edges))
    return jax.tree.map(join, results)

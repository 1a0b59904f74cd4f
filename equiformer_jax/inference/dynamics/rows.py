"""Features of edges as rows: one row per channel and component, the edges side by side, `[D, E]`.

With the edges on the last axis what is known of an edge (attention, distance, the entries of its
rotation) multiplies whole rows, sums over channels are sums of rows, and picking the rows of an
order is a copy of rows: all of that runs at the speed of vector units. Rows are sorted by segment,
then component, then channel, as `ops.irreps.concatenate_components` lays them out.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Sequence

import e3nn_jax as e3nn
import jax
import jax.numpy as jnp
import numpy as np

from equiformer_jax.ops.wigner import degree_raising

# From here on sums over edges scatter; up to here they are matrix products.

MOST_NODES_FOR_PRODUCTS = 64


# Of one segment `[mul, E]` for each component, `None` where zero, or all in one array.
Components = Sequence[jax.Array | None] | jax.Array


def first_rows(irreps: e3nn.Irreps) -> tuple[int, ...]:
    """The first row of each segment."""
    return tuple(int(sum(mul * ir.dim for mul, ir in irreps[:i])) for i in range(len(irreps)))


def segment_rows(irreps: e3nn.Irreps, rows: jax.Array) -> list[jax.Array]:
    """Splits `[D, E]` into one `[2l+1, mul, E]` per segment."""
    return [
        rows[start : start + mul * ir.dim].reshape(ir.dim, mul, -1)
        for start, (mul, ir) in zip(first_rows(irreps), irreps, strict=True)
    ]


def rotate_rows(
    irreps: e3nn.Irreps, rows: jax.Array, matrices: Sequence[jax.Array]
) -> list[jax.Array]:
    """Turns rows into the frame of their edge.

    Args:
      irreps: of the rows.
      rows: `[D, E]`.
      matrices: Wigner matrices of degrees 1 and up, `[2l+1, 2l+1, E]`.

    Returns:
      One `[2l+1, mul, E]` per segment.
    """
    # Sums as reductions: XLA keeps their results, where it would fuse additions into everything
    # that reads them and compute them again and again.
    return [
        x if ir.l == 0 else jnp.sum(matrices[ir.l - 1][:, :, None] * x[None], axis=1)
        for x, (_, ir) in zip(segment_rows(irreps, rows), irreps, strict=True)
    ]


def rotate_back(
    irreps: e3nn.Irreps,
    components: Sequence[Components],
    matrices: Sequence[jax.Array],
) -> jax.Array:
    """Turns features out of the frame of their edge.

    Args:
      irreps: their segments.
      components: of each segment its components `[mul, E]`, `None` where zero.
      matrices: Wigner matrices of degrees 1 and up, `[2l+1, 2l+1, E]`.

    Returns:
      `[D, E]`.
    """
    some = next(x for segment in components for x in segment if x is not None)
    rows = []
    for segment, (mul, ir) in zip(components, irreps, strict=True):
        present = [i for i, x in enumerate(segment) if x is not None]
        if not present:
            rows.append(jnp.zeros((mul * ir.dim, some.shape[-1]), some.dtype))
            continue
        stacked = jnp.stack([x for x in segment if x is not None])
        if ir.l:
            matrix = matrices[ir.l - 1][np.array(present)]
            stacked = jnp.sum(matrix[:, :, None] * stacked[:, None], axis=0)
        rows.append(stacked.reshape(mul * ir.dim, -1))
    return write_rows(rows)


def write_rows(parts: Sequence[jax.Array]) -> jax.Array:
    """Rows `[n, E]` one after another, in memory.

    Written into one array part by part: XLA would fuse what makes the parts into everything that
    reads a concatenation of them, and compute it again for every reader.
    """
    rows = jnp.zeros((sum(map(len, parts)), parts[0].shape[-1]), parts[0].dtype)
    start = 0
    for part in parts:
        rows = jax.lax.dynamic_update_slice(rows, part, (start, 0))
        start += len(part)
    return rows


def edges_last(values: jax.Array) -> jax.Array:
    """`[E, ...]` to `[..., E]`, in memory.

    As a product with the unit matrix: XLA would fuse a transposition into everything that reads it.
    """
    flat = values.reshape(len(values), -1)
    unit = jnp.eye(flat.shape[1], dtype=values.dtype)
    return (unit @ flat.T).reshape(*values.shape[1:], len(values))


def rows_at_edges(*nodes_and_index: tuple[jax.Array, jax.Array]) -> jax.Array:
    """The sum of node values `[N, D]` at nodes `[E]` of each edge: `[D, E]`.

    Few nodes are read by a product with the matrix of which edge belongs to which node, which needs
    no transposition.
    """
    num_nodes = len(nodes_and_index[0][0])
    if num_nodes > MOST_NODES_FOR_PRODUCTS:
        return write_rows([add_all([nodes[index] for nodes, index in nodes_and_index]).T])
    belongs = [_belongs(index, num_nodes, nodes.dtype).T for nodes, index in nodes_and_index]
    return jnp.concatenate([nodes for nodes, _ in nodes_and_index]).T @ jnp.concatenate(belongs)


def sum_rows_to_nodes(rows: jax.Array, index: jax.Array, num_nodes: int) -> jax.Array:
    """Sums rows `[D, E]` over the edges of each node: `[N, D]`, the reverse of `rows_at_edges`."""
    if num_nodes > MOST_NODES_FOR_PRODUCTS:
        return jax.ops.segment_sum(rows.T, index, num_nodes)
    return (rows @ _belongs(index, num_nodes, rows.dtype)).T


def _belongs(index: jax.Array, num_nodes: int, dtype: jnp.dtype) -> jax.Array:
    return (index[:, None] == jnp.arange(num_nodes)).astype(dtype)


def add_all(terms: Sequence[jax.Array]) -> jax.Array:
    """The sum of a few arrays."""
    return functools.reduce(operator.add, terms)


def sum_rows(rows: jax.Array) -> jax.Array:
    """Sums `[n, ..., E]` over its first axis.

    A reduction by XLA walks down the rows of one edge after another; halves are added as vectors.
    """
    for _ in range(4):
        half, odd = divmod(rows.shape[0], 2)
        if odd or not half:
            break
        rows = rows[:half] + rows[half:]
    return rows[0] if rows.shape[0] == 1 else jnp.sum(rows, axis=0)


@functools.cache
def turn_generators(degree: int) -> tuple[tuple[tuple[int, int, float], ...], ...]:
    """How components mix when the frame of an edge turns about its first and its third axis.

    Returns:
      For both axes the entries (i, j, value), i < j, of an antisymmetric matrix `J`, such that the
      Wigner matrix of a small turn by t is `1 + t J`.
    """
    found = []
    for axis in (0, 2):
        matrix = _generator(degree, axis)
        entries = [(i, j) for i, j in np.argwhere(np.abs(matrix) > 1e-9).tolist() if i < j]
        found.append(tuple((i, j, float(matrix[i, j])) for i, j in entries))
    return tuple(found)


def _generator(degree: int, axis: int) -> np.ndarray:
    """`[2l+1, 2l+1]`: the derivative of a Wigner matrix by a turn about an axis, at no turn."""
    matrix = vector = np.cross(np.eye(3)[axis], np.eye(3)).T
    for step in range(2, degree + 1):
        raising = degree_raising(step)
        lower = np.einsum("mij,ik,nkj->mn", raising, matrix, raising)
        matrix = lower + np.einsum("mij,jl,nil->mn", raising, vector, raising)
    return matrix


def torque(
    left: Sequence[Components],
    right: Sequence[Components],
    irreps: e3nn.Irreps,
) -> jax.Array:
    """`left . J right` for both generators: how a product changes when its frame turns.

    Args:
      left: of each segment its components `[mul, E]`, `None` where zero.
      right: the same.
      irreps: the segments.

    Returns:
      `[2, E]`, by the first and the third axis.
    """
    sums: list[list[jax.Array]] = [[], []]
    for a, b, (_, ir) in zip(left, right, irreps, strict=True):
        for axis, entries in enumerate(turn_generators(ir.l) if ir.l else ()):
            terms = [
                value * sign * x * y
                for i, j, value in entries
                for x, y, sign in ((a[i], b[j], 1), (a[j], b[i], -1))
                if x is not None and y is not None
            ]
            if terms:
                sums[axis].append(sum_rows(add_all(terms)))
    some = next(x for segment in left for x in segment if x is not None)
    zero = jnp.zeros(some.shape[-1], some.dtype)
    return jnp.stack([add_all(each) if each else zero for each in sums])

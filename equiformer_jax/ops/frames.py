"""Edge-aligned frames: rotations that turn every edge onto the polar axis.

They are smooth wherever they are used. In such a frame a tensor product with spherical harmonics is
diagonal in the order m. The frame is free up to a turn about the edge, and any choice gives the
same result. Two charts built from polynomials of the unit vector cover the sphere, each used on the
half where its denominator is at least 1: values and all derivatives are exact, at the poles too.
The derivative of the frame must not be stopped: it is part of the force.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from equiformer_jax.ops.wigner import degree_raising


def aligning_rotation(direction: jax.Array) -> jax.Array:
    """Rotation matrices that take unit vectors to the polar axis y.

    For `y >= 0` the smallest such rotation; for `y < 0` the smallest one to -y, then half a turn
    about x.

    Args:
      direction: `[E, 3]` unit vectors.

    Returns:
      `[E, 3, 3]`, acting on components in the order (x, y, z).
    """
    x, y, z = direction[:, 0], direction[:, 1], direction[:, 2]
    sign = jnp.where(y >= 0, 1.0, -1.0).astype(direction.dtype)
    scale = 1 / (1 + sign * y)
    rows = (
        (1 - x * x * scale, -sign * x, -x * z * scale),
        (x, y, z),
        (-sign * x * z * scale, -z, sign * (1 - z * z * scale)),
    )
    return jnp.stack([jnp.stack(row, axis=-1) for row in rows], axis=-2)


def wigner_matrices(rotation: jax.Array, lmax: int) -> tuple[jax.Array, ...]:
    """Wigner D matrices of degrees 1 to `lmax`.

    Args:
      rotation: `[E, 3, 3]`; with components in the order (x, y, z) it is the matrix of degree 1.
      lmax: highest degree.

    Returns:
      `lmax` arrays, `[E, 2l+1, 2l+1]`.
    """
    matrices = [rotation] if lmax else []
    for degree in range(2, lmax + 1):
        raising = jnp.asarray(degree_raising(degree), rotation.dtype)
        partial = jnp.einsum("mij,eik->emjk", raising, matrices[-1])
        partial = jnp.einsum("emjk,ejl->emkl", partial, rotation)
        matrices.append(jnp.einsum("emkl,nkl->emn", partial, raising))
    return tuple(matrices)


def aligned_harmonics(matrices: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
    """Spherical harmonics (component normalization) of the edges that the matrices align.

    `Y_l(u) = D_l^T Y_l(polar axis)`, which is `sqrt(2l+1)` times the middle row of `D_l`.

    Returns:
      For degrees 1 to lmax, `[E, 2l+1]`.
    """
    return tuple((d.shape[-1] ** 0.5) * d[:, d.shape[-1] // 2, :] for d in matrices)

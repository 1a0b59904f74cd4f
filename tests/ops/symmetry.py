"""Random features, and what a rotation or an inversion does to them."""

from __future__ import annotations

import e3nn_jax as e3nn
import jax
import numpy as np
import scipy.spatial.transform

from equiformer_jax.ops.frames import wigner_matrices
from equiformer_jax.ops.irreps import Features

_wigner_matrices = jax.jit(wigner_matrices, static_argnums=1)


def random_features(irreps: str, count: int, seed: int = 0) -> tuple[np.ndarray, ...]:
    """Segments `[count, 2l+1, mul]` of normal numbers."""
    rng = np.random.default_rng(seed)
    return tuple(rng.normal(size=(count, ir.dim, mul)) for mul, ir in e3nn.Irreps(irreps))


def random_rotation(seed: int = 0) -> np.ndarray:
    """A rotation matrix `[3, 3]`."""
    return scipy.spatial.transform.Rotation.random(random_state=seed).as_matrix()


def transform(
    features: Features, irreps: str | e3nn.Irreps, rotation: np.ndarray, invert: bool = False
) -> Features:
    """Turns segments `[..., 2l+1, mul]`; an inversion changes the sign of odd irreps."""
    irreps = e3nn.Irreps(irreps)
    matrices = [np.ones((1, 1, 1)), *map(np.asarray, _wigner_matrices(rotation[None], 3))]
    turned = []
    for x, (_, ir) in zip(features, irreps, strict=True):
        sign = ir.p if invert else 1
        turned.append(None if x is None else sign * np.einsum("ij,...ju", matrices[ir.l][0], x))
    return tuple(turned)


def assert_features_close(left: Features, right: Features, tolerance: float = 1e-12) -> None:
    """Segments are equal up to `tolerance` of the largest magnitude; dead ones are both dead."""
    assert [x is None for x in left] == [x is None for x in right]
    for x, y in zip(left, right, strict=True):
        if x is not None:
            np.testing.assert_allclose(x, y, rtol=0, atol=tolerance * np.abs(y).max())

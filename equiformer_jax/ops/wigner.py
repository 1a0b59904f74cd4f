"""Coupling coefficients of the rotation group, as NumPy constants."""

from __future__ import annotations

import functools

import e3nn_jax as e3nn
import numpy as np


@functools.cache
def wigner_3j(l1: int, l2: int, l3: int) -> np.ndarray:
    """Real Wigner 3j tensor of Frobenius norm 1 with the signs of the official model's library.

    e3nn-jax chooses the other sign where one degree is 1 and the others are equal and above 1
    (specification section 1.2; the signs are part of a trained checkpoint's meaning).

    Returns:
      `[2 l1 + 1, 2 l2 + 1, 2 l3 + 1]` in float64; zero unless `|l1 - l2| <= l3 <= l1 + l2`.
    """
    if not abs(l1 - l2) <= l3 <= l1 + l2:
        return np.zeros((2 * l1 + 1, 2 * l2 + 1, 2 * l3 + 1))
    coefficients = np.asarray(e3nn.clebsch_gordan(l1, l2, l3), np.float64)
    low, middle, high = sorted((l1, l2, l3))
    sign = -1.0 if low == 1 and middle == high > 1 else 1.0
    return sign * coefficients / np.linalg.norm(coefficients)


@functools.cache
def aligned_coefficient(l1: int, l2: int, l3: int, m: int) -> float:
    """Coefficient of one path for an edge along the polar axis (y), orders `m >= 0`.

    There the harmonics are `Y_l = sqrt(2l+1)` in the middle component and zero elsewhere, so a path
    only couples order m with itself (`l1 + l2 + l3` even, one coefficient for +m and -m) or with
    its mirror (odd: output +m takes this coefficient times input -m, output -m its negative times
    input +m).
    """
    factor = np.sqrt((2 * l3 + 1) * (2 * l2 + 1))
    sender = m if (l1 + l2 + l3) % 2 == 0 else -m
    return float(factor * wigner_3j(l1, l2, l3)[l1 + sender, l2, l3 + m])


@functools.cache
def degree_raising(degree: int) -> np.ndarray:
    """Isometry from `(degree - 1) x 1` onto `degree`: `[2 degree + 1, 2 degree - 1, 3]`.

    With it `D^l = Q (D^{l-1} x D^1) Q^T`, which builds all rotation matrices from polynomials of
    the first.
    """
    return np.sqrt(2 * degree + 1) * np.moveaxis(wigner_3j(degree - 1, 1, degree), 2, 0)

"""Real Wigner 3j symbols, spherical harmonics and rotation matrices (SPEC §1.2).

The 3j symbols are the Clebsch-Gordan coefficients of SU(2), written by Racah's sum, taken to the
real basis and normalized to Frobenius norm 1. The harmonics then follow by recursion: the degree-l
part of `Y_1 (x) Y_{l-1}` is proportional to `Y_l`. In this basis degree 1 is `(x, y, z)`, and y is
the polar axis.
"""

from __future__ import annotations

import functools
from math import factorial, sqrt

import numpy as np


def su2_clebsch_gordan(l1: int, m1: int, l2: int, m2: int, l3: int) -> float:
    """Coefficient `<l1 m1 l2 m2 | l3 m1+m2>` by Racah's sum, phases of Condon and Shortley."""
    m3 = m1 + m2
    if abs(m3) > l3 or not abs(l1 - l2) <= l3 <= l1 + l2:
        return 0.0
    triangle = (
        (2 * l3 + 1)
        * factorial(l3 + l1 - l2)
        * factorial(l3 - l1 + l2)
        * factorial(l1 + l2 - l3)
        / factorial(l1 + l2 + l3 + 1)
    )
    orders = 1
    for degree, order in ((l1, m1), (l2, m2), (l3, m3)):
        orders *= factorial(degree + order) * factorial(degree - order)
    total = 0.0
    for k in range(l1 + l2 - l3 + 1):
        arguments = (
            k,
            l1 + l2 - l3 - k,
            l1 - m1 - k,
            l2 + m2 - k,
            l3 - l2 + m1 + k,
            l3 - l1 - m2 + k,
        )
        if min(arguments) >= 0:
            denominator = 1
            for argument in arguments:
                denominator *= factorial(argument)
            total += (-1) ** k / denominator
    return sqrt(triangle) * sqrt(orders) * total


@functools.cache
def real_basis(degree: int) -> np.ndarray:
    """Unitary `[2l+1, 2l+1]` whose columns are the real basis vectors in the basis of `|l, m>`.

    The common phase `(-i)^l` makes all 3j symbols real.
    """
    matrix = np.zeros((2 * degree + 1, 2 * degree + 1), complex)
    matrix[degree, degree] = 1.0
    for m in range(1, degree + 1):
        cosine, sine = degree + m, degree - m
        matrix[degree - m, cosine] = 1 / sqrt(2)
        matrix[degree + m, cosine] = (-1) ** m / sqrt(2)
        matrix[degree - m, sine] = -1j / sqrt(2)
        matrix[degree + m, sine] = 1j * (-1) ** m / sqrt(2)
    return (-1j) ** degree * matrix


@functools.cache
def wigner_3j(l1: int, l2: int, l3: int) -> np.ndarray:
    """The real invariant tensor `C[i, j, k]` of shape `[2 l1+1, 2 l2+1, 2 l3+1]` and norm 1.

    Its sign is the one of e3nn 0.4, with which the published weights were trained. For ascending
    degrees the middle entry is positive, or the first entry that is not zero where that one is;
    exchanging two degrees gives the factor `(-1)^(l1+l2+l3)`. Coefficients in the convention of
    Condon and Shortley, which later e3nn and e3nn-jax use, have the other sign for the degrees
    1, l, l with l >= 2.
    """
    degrees = (l1, l2, l3)
    order = sorted(range(3), key=lambda axis: degrees[axis])
    ascending = _ascending_3j(*(degrees[axis] for axis in order))
    swaps = sum(order[i] > order[j] for i in range(3) for j in range(i + 1, 3))
    place = [order.index(axis) for axis in range(3)]
    return (-1) ** (swaps * sum(degrees)) * ascending.transpose(place)


@functools.cache
def _ascending_3j(l1: int, l2: int, l3: int) -> np.ndarray:
    tensor = _coupling(l1, l2, l3)
    middle = tensor[l1, l2, l3]
    first = next(value for value in tensor.ravel() if abs(value) > 1e-12)
    return tensor * np.sign(middle if abs(middle) > 1e-12 else first)


def _coupling(l1: int, l2: int, l3: int) -> np.ndarray:
    """The Clebsch-Gordan coefficients in the real basis, norm 1."""
    coefficients = np.zeros((2 * l1 + 1, 2 * l2 + 1, 2 * l3 + 1))
    for m1 in range(-l1, l1 + 1):
        for m2 in range(-l2, l2 + 1):
            if abs(m1 + m2) <= l3:
                value = su2_clebsch_gordan(l1, m1, l2, m2, l3)
                coefficients[l1 + m1, l2 + m2, l3 + m1 + m2] = value
    first, second, third = real_basis(l1), real_basis(l2), real_basis(l3)
    tensor = np.einsum("abc,ai,bj,ck->ijk", coefficients, first, second, third.conj())
    if np.abs(tensor.imag).max() > 1e-12:
        raise ArithmeticError(f"the 3j symbol of {l1}, {l2}, {l3} did not come out real")
    return tensor.real / np.linalg.norm(tensor.real)


def spherical_harmonics(vectors: np.ndarray, max_degree: int) -> np.ndarray:
    """Real harmonics of `[..., 3]` vectors, degrees 0 to `max_degree`: `[..., (max_degree+1)^2]`.

    "Component" normalization: the squares of degree l sum to `2l+1`. A zero vector gives 1 for
    degree 0 and 0 for all others.
    """
    units = _normalized(vectors)
    degree_one = sqrt(3) * units
    harmonics = [np.ones_like(units[..., :1])]
    for degree in range(1, max_degree + 1):
        product = _couple(degree_one, harmonics[-1], degree)
        harmonics.append(product / _recursion_constant(degree))
    return np.concatenate(harmonics, axis=-1)


def _normalized(vectors: np.ndarray) -> np.ndarray:
    length = np.sqrt((vectors * vectors).sum(-1, keepdims=True))
    return vectors / np.where(length.real > 1e-12, length, 1e-12)


def _couple(degree_one: np.ndarray, lower: np.ndarray, degree: int) -> np.ndarray:
    return np.einsum("ijk,...i,...j->...k", wigner_3j(1, degree - 1, degree), degree_one, lower)


@functools.cache
def _recursion_constant(degree: int) -> float:
    """Length of the coupled product at the pole, over that of `Y_l`."""
    pole = np.array([0.0, 1.0, 0.0])
    lower = spherical_harmonics(pole, degree - 1)[(degree - 1) ** 2 :]
    return float(np.linalg.norm(_couple(sqrt(3) * pole, lower, degree)) / sqrt(2 * degree + 1))


def rotation_matrix(degree: int, rotation: np.ndarray) -> np.ndarray:
    """How the rotation `[3, 3]` acts on degree `degree`: `Y_l(R v) = D Y_l(v)`."""
    if degree == 0:
        return np.ones((1, 1))
    symbol = wigner_3j(1, degree - 1, degree)
    lower = rotation_matrix(degree - 1, rotation)
    product = np.einsum("abm,ac,bd,cdn->mn", symbol, rotation, lower, symbol)
    return (2 * degree + 1) * product

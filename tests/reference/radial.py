"""Radial bases and the networks that turn them into weights (SPEC §2.4, §4)."""

from __future__ import annotations

import math

import numpy as np

from tests.reference.activations import silu
from tests.reference.parameters import Scope


def gaussian_basis(scope: Scope, distance: np.ndarray, cutoff: float, count: int) -> np.ndarray:
    """Learned Gaussians of `weight d / R + bias`, `[E] -> [E, K]`; pi is the published 3.14159."""
    mean = scope.array("mean", (1, count), center=0.5, spread=0.3)
    std = scope.array("std", (1, count), center=0.4, spread=0.1)
    weight = scope.array("weight", (1, 1), center=1.0)
    bias = scope.array("bias", (1, 1))
    argument = weight * distance[:, None] / cutoff + bias
    width = np.where(std.real < 0, -std, std) + 1e-5
    return np.exp(-0.5 * ((argument - mean) / width) ** 2) / (math.sqrt(2 * 3.14159) * width)


def exponential_basis(scope: Scope, distance: np.ndarray, cutoff: float, count: int) -> np.ndarray:
    """Gaussians of `exp(-5 d / R)` under a cosine cutoff, `[E] -> [E, K]`; nothing is learned."""
    smallest = math.exp(-cutoff)
    means = scope.buffer("means", np.linspace(smallest, 1.0, count))
    betas = scope.buffer("betas", np.full(count, (2 / count * (1 - smallest)) ** -2))
    d = distance[:, None]
    envelope = np.where(d.real < cutoff, 0.5 * (np.cos(math.pi * d / cutoff) + 1), 0)
    return envelope * np.exp(-betas * (np.exp(-5 / cutoff * d) - means) ** 2)


def bessel_basis(scope: Scope, distance: np.ndarray, cutoff: float, count: int) -> np.ndarray:
    """Bessel functions of learned frequencies under a polynomial cutoff, `[E] -> [E, K]`."""
    frequencies = scope.array("frequencies", (count,), center=8.0, spread=4.0)
    u = distance[:, None] / cutoff
    envelope = np.where(u.real < 1, 1 - 21 * u**5 + 35 * u**6 - 15 * u**7, 0)
    return envelope * math.sqrt(2 / cutoff**3) / u * np.sin(frequencies * u)


def radial_basis(
    scope: Scope, kind: str, distance: np.ndarray, cutoff: float, count: int
) -> np.ndarray:
    """The basis `kind` of a model, whose parameters lie under `rbf`."""
    if kind == "gaussian":
        return gaussian_basis(scope.child("rbf"), distance, cutoff, count)
    if kind == "exp":
        return exponential_basis(scope.child("rbf"), distance, cutoff, count)
    if kind == "bessel":
        return bessel_basis(scope.child("rbf").child("rbf"), distance, cutoff, count)
    raise ValueError(f"basis_type {kind!r}: expected gaussian, exp or bessel")


def radial_network(
    scope: Scope, scalars: np.ndarray, hidden: tuple[int, ...], outputs: int
) -> np.ndarray:
    """Two layers of linear map, layer norm and plain SiLU, a last linear map and an offset.

    Args:
      scope: parameters `net.0`, `net.1`, ... and `offset`.
      scalars: `[E, K]`.
      hidden: widths of the hidden layers.
      outputs: number of weights per edge, W.

    Returns:
      `[E, W]`.
    """
    layers = scope.child("net")
    x = scalars
    for depth, width in enumerate(hidden):
        affine = layers.child(str(3 * depth))
        spread = 1 / math.sqrt(x.shape[-1])
        x = x @ affine.array("weight", (width, x.shape[-1]), spread=spread).T
        x = x + affine.array("bias", (width,))
        x = silu(_layer_norm(layers.child(str(3 * depth + 1)), x))
    last = layers.child(str(3 * len(hidden)))
    spread = 1 / math.sqrt(x.shape[-1])
    x = x @ last.array("weight", (outputs, x.shape[-1]), spread=spread).T
    return x + scope.array("offset", (outputs,), spread=spread)


def _layer_norm(scope: Scope, x: np.ndarray) -> np.ndarray:
    centered = x - x.mean(-1, keepdims=True)
    variance = (centered * centered).mean(-1, keepdims=True)
    scale = scope.array("weight", (x.shape[-1],), center=1.0)
    return centered / np.sqrt(variance + 1e-5) * scale + scope.array("bias", (x.shape[-1],))

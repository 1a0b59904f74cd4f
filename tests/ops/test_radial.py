from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from equiformer_jax.ops.radial import (
    bessel_basis,
    exponential_basis,
    exponential_centers,
    gaussian_basis,
    log_smooth_envelope,
)

CUTOFF = 5.0


def derivative(function, order: int):
    def scalar(distance):
        return jnp.sum(function(distance[None]))

    for _ in range(order):
        scalar = jax.grad(scalar)
    return jax.jit(scalar)


def test_gaussians_have_unit_area():
    distance = np.linspace(-20, 20, 20001)
    mean, std = np.array([0.2, 0.7]), np.array([0.1, -0.3])
    values = gaussian_basis(distance, mean, std, np.array(1.0), np.array(0.0), CUTOFF)
    area = np.trapezoid(values, distance / CUTOFF, axis=0)
    np.testing.assert_allclose(area, 1, rtol=1e-6)  # not 1e-12: the official pi is 3.14159


def test_gaussians_read_a_scaled_and_shifted_distance():
    weight, bias = np.array(2.0), np.array(0.3)
    values = gaussian_basis(np.array([1.0]), np.array([0.7]), np.array([0.1]), weight, bias, CUTOFF)
    peak = gaussian_basis(np.array([0.7]), np.array([0.7]), np.array([0.1]), 1.0, 0.0, 1.0)
    np.testing.assert_allclose(values, peak)


def test_exponential_functions_peak_where_the_decay_meets_their_center():
    centers, _ = exponential_centers(8, CUTOFF)
    assert centers[0] == pytest.approx(np.exp(-CUTOFF))
    assert centers[-1] == 1
    distance = -CUTOFF / 5 * np.log(centers[1:])
    values = exponential_basis(jnp.asarray(distance), 8, CUTOFF)
    envelope = 0.5 * (np.cos(np.pi * distance / CUTOFF) + 1)
    np.testing.assert_allclose(np.diag(values[:, 1:]), envelope)


@pytest.mark.parametrize(
    "basis",
    [
        lambda d: exponential_basis(d, 6, CUTOFF),
        lambda d: bessel_basis(d, jnp.pi * jnp.arange(1, 5), CUTOFF),
    ],
    ids=["exp", "bessel"],
)
def test_enveloped_bases_vanish_at_the_cutoff_and_beyond(basis):
    distance = jnp.array([CUTOFF - 1e-9, CUTOFF, CUTOFF + 1e-9, 10.0])
    np.testing.assert_allclose(basis(distance), 0, atol=1e-8)
    assert np.isfinite(derivative(basis, 2)(jnp.asarray(CUTOFF)))


def test_bessel_functions_are_orthonormal_without_their_envelope():
    distance = np.linspace(1e-6, CUTOFF, 20001)
    frequencies = np.pi * np.arange(1, 5)
    scaled = distance / CUTOFF
    envelope = 1 - 21 * scaled**5 + 35 * scaled**6 - 15 * scaled**7
    inside = scaled < 0.95  # where the envelope can be divided out
    values = np.asarray(bessel_basis(distance, frequencies, CUTOFF))
    wanted = (2 / CUTOFF) ** 0.5 / distance[:, None] * np.sin(frequencies * scaled[:, None])
    np.testing.assert_allclose(values[inside] / envelope[inside, None], wanted[inside], rtol=1e-9)
    overlap = np.trapezoid(
        wanted[:, :, None] * wanted[:, None, :] * distance[:, None, None] ** 2, distance, axis=0
    )
    np.testing.assert_allclose(overlap, np.eye(4), atol=1e-5)


def test_smooth_envelope_goes_from_one_to_zero():
    distance = jnp.linspace(0, CUTOFF, 101)[:-1]
    values = jnp.exp(log_smooth_envelope(distance, CUTOFF))
    assert values[0] == 1
    assert (jnp.diff(values) < 1e-12).all()
    assert jnp.exp(log_smooth_envelope(jnp.array([CUTOFF * (1 - 1e-6)]), CUTOFF)) < 1e-16
    x = distance / CUTOFF
    np.testing.assert_allclose(values, 1 - 10 * x**3 + 15 * x**4 - 6 * x**5, atol=1e-13)


def test_smooth_envelope_is_finite_beyond_the_cutoff():
    assert (log_smooth_envelope(jnp.array([CUTOFF, 7.0]), CUTOFF) == 0).all()


@pytest.mark.parametrize("order", [1, 2])
def test_derivatives_of_the_smooth_envelope_vanish_at_both_ends(order):
    slope = derivative(lambda d: jnp.exp(log_smooth_envelope(d, CUTOFF)), order)
    for distance in (0.0, CUTOFF - 1e-9):
        assert float(slope(jnp.asarray(distance))) == pytest.approx(0, abs=1e-7)
    assert abs(slope(jnp.asarray(2.0))) > 1e-2


def test_logarithm_of_the_smooth_envelope_is_differentiable_in_float32(float32_mode):
    just_inside = jnp.float32(CUTOFF) * (1 - jnp.finfo(jnp.float32).eps)
    for order in (1, 2, 3):
        slope = derivative(lambda d: log_smooth_envelope(d, CUTOFF), order)
        assert jnp.isfinite(slope(just_inside))

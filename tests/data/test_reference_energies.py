from __future__ import annotations

import numpy as np
import pytest

from equiformer_jax.data.reference_energies import (
    ReferenceEnergyFitter,
    RunningMoments,
    sum_of_references,
)

# Total energies of atoms in eV, of the size that all-electron calculations give.
ATOMS = {1: -13.6, 6: -1036.0, 8: -2045.0, 16: -10832.0}


def molecule(generator):
    """Atomic numbers of a random composition."""
    counts = generator.integers([1, 1, 0, 0], [12, 10, 4, 3])
    return generator.permutation(np.repeat(list(ATOMS), counts))


def fit(structures):
    fitter = ReferenceEnergyFitter()
    for numbers, energy in structures:
        fitter.add(np.asarray(numbers), energy)
    return fitter.fit()


def by_least_squares(structures):
    """References and residuals, with one row for each structure."""
    elements = np.unique(np.concatenate([numbers for numbers, _ in structures]))
    table = np.array([(elements[:, None] == numbers).sum(1) for numbers, _ in structures], float)
    energies = np.array([energy for _, energy in structures])
    solution = np.linalg.lstsq(table, energies)[0]
    return dict(zip(elements.tolist(), solution, strict=True)), energies - table @ solution


def test_sums_of_atoms_are_found():
    generator = np.random.default_rng(0)
    numbers = [molecule(generator) for _ in range(60)]
    result = fit([(z, sum(ATOMS[i] for i in z.tolist())) for z in numbers])
    assert result.unique
    assert result.energies == pytest.approx(ATOMS, rel=1e-12)
    assert result.residual_std < 1e-9


@pytest.mark.parametrize("offset", [0.0, -1.0e5])
def test_large_energies_lose_nothing(offset):
    # Bonds of some eV on totals of -1e4 to -1e5 eV; the offset is nothing that elements explain.
    generator = np.random.default_rng(1)
    numbers = [molecule(generator) for _ in range(400)]
    structures = [
        (z, offset + sum(ATOMS[i] for i in z.tolist()) + 1e-3 * generator.normal()) for z in numbers
    ]
    expected, residuals = by_least_squares(structures)
    result = fit(structures)
    assert result.energies == pytest.approx(expected, rel=1e-11)
    assert result.residual_std == pytest.approx(residuals.std(ddof=1), rel=1e-7)


def test_structures_of_one_composition_weigh_as_many_as_they_are():
    numbers = [[1, 1], [1, 1], [1, 1], [1, 6], [6, 6, 1]]
    structures = [(np.array(z), e) for z, e in zip(numbers, [1.0, 2.0, 6.0, 3.0, 9.0], strict=True)]
    expected, residuals = by_least_squares(structures)
    result = fit(structures)
    assert result.energies == pytest.approx(expected)
    assert result.residual_std == pytest.approx(residuals.std(ddof=1))


def test_fixed_ratios_leave_the_elements_open_but_not_their_sum():
    generator = np.random.default_rng(2)
    energies = -17_660 + generator.normal(size=30)
    aspirin = np.repeat([6, 1, 8], [9, 8, 4])
    result = fit([(aspirin, e) for e in energies])
    assert not result.unique
    total = 9 * result.energies[6] + 8 * result.energies[1] + 4 * result.energies[8]
    assert total == pytest.approx(energies.mean(), rel=1e-13)
    # The smallest norm: in proportion to the counts.
    assert result.energies[6] / result.energies[8] == pytest.approx(9 / 4)
    assert result.residual_std == pytest.approx(energies.std(ddof=1), rel=1e-9)


def test_fewer_compositions_than_elements_are_not_unique():
    result = fit([([1, 6], 1.0), ([1, 8], 2.0)])
    assert not result.unique
    assert result.energies[1] + result.energies[6] == pytest.approx(1.0)
    assert sorted(result.energies) == [1, 6, 8]


def test_the_order_of_the_atoms_and_their_type_do_not_matter():
    fitter = ReferenceEnergyFitter()
    fitter.add(np.array([1, 6, 1], np.int32), 1.0)
    fitter.add(np.array([6, 1, 1], np.int64), 3.0)
    assert fitter.element_counts[[1, 6, 8]].tolist() == [4, 2, 0]
    assert fitter.fit().residual_std == pytest.approx(np.sqrt(2.0))


def test_references_are_summed_over_atoms():
    assert sum_of_references(np.array([1, 6, 1]), ATOMS) == pytest.approx(-1063.2)


def test_an_element_without_reference_is_named():
    with pytest.raises(ValueError, match=r"atomic numbers \[26\].*\[1, 6, 8, 16\]"):
        sum_of_references(np.array([1, 26]), ATOMS)


def test_running_moments_keep_a_tiny_spread():
    values = -4.0e5 + np.random.default_rng(3).normal(size=50) * 1e-3
    moments = RunningMoments()
    for value in values:
        moments.add(value)
    assert moments.unbiased_std == pytest.approx(values.std(ddof=1), rel=1e-6)

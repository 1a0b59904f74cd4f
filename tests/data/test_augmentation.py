from __future__ import annotations

import numpy as np
import pytest

from equiformer_jax.data.augmentation import DenoisingCorruption, RelaxationInterpolation
from equiformer_jax.structure import Structure

NUM_ATOMS = 4000


@pytest.fixture(scope="module")
def relaxed():
    generator = np.random.default_rng(0)
    start = generator.normal(size=(NUM_ATOMS, 3)) * 10
    return Structure(
        start,
        np.full(NUM_ATOMS, 29),
        tags=np.arange(NUM_ATOMS) % 3,
        relaxed_positions=start + [2.0, 0, 0],
        forces=generator.normal(size=(NUM_ATOMS, 3)),
    )


def test_interpolation_moves_tagged_atoms_between_the_two_ends(relaxed):
    augment = RelaxationInterpolation(probability=1.0, noise=0.3)
    moved, arrays = augment(relaxed, np.random.default_rng(1))
    shift = moved.positions - relaxed.positions
    assert not shift[relaxed.tags == 0].any()
    free = shift[relaxed.tags > 0]
    # Along the displacement: uniform from 0 to 2 and noise; across it: noise alone.
    assert free[:, 0].mean() == pytest.approx(1.0, abs=0.05)
    assert free[:, 0].var() == pytest.approx(4 / 12 + 0.09, rel=0.1)
    assert free[:, 1:].std() == pytest.approx(0.3, rel=0.05)
    np.testing.assert_array_equal(moved.relaxed_positions, relaxed.relaxed_positions)
    assert not arrays


def test_interpolation_changes_half_of_the_structures(relaxed):
    generator = np.random.default_rng(2)
    changed = [RelaxationInterpolation()(relaxed, generator)[0] is not relaxed for _ in range(200)]
    assert 70 < sum(changed) < 130


@pytest.mark.parametrize("missing", ["tags", "relaxed_positions"])
def test_interpolation_needs_both_ends(missing):
    fields = {"tags": [1], "relaxed_positions": [[0, 0, 1.0]]}
    del fields[missing]
    with pytest.raises(ValueError, match=missing):
        RelaxationInterpolation()(Structure([[0, 0, 0]], [1], **fields), np.random.default_rng(0))


def test_corruption_moves_masked_atoms_and_tells_their_forces(relaxed):
    augment = DenoisingCorruption(probability=1.0, atom_share=0.25, std=0.05, force_unit=0.5)
    corrupted, arrays = augment(relaxed, np.random.default_rng(3))
    mask, noise = arrays["noise_mask"], arrays["noise"]
    assert mask.mean() == pytest.approx(0.25, abs=0.03)
    assert noise[mask].std() == pytest.approx(0.05, rel=0.05)
    assert not noise[~mask].any()
    np.testing.assert_allclose(corrupted.positions - relaxed.positions, noise, atol=1e-12)
    np.testing.assert_allclose(arrays["force_input"][mask], relaxed.forces[mask] / 0.5)
    assert not arrays["force_input"][~mask].any()


def test_structures_that_are_not_selected_stay_as_they_are(relaxed):
    corrupted, arrays = DenoisingCorruption(probability=0.0)(relaxed, np.random.default_rng(4))
    np.testing.assert_array_equal(corrupted.positions, relaxed.positions)
    assert {name: array.shape for name, array in arrays.items()} == {
        "noise_mask": (NUM_ATOMS,),
        "noise": (NUM_ATOMS, 3),
        "force_input": (NUM_ATOMS, 3),
    }
    assert not any(array.any() for array in arrays.values())


def test_the_same_generator_gives_the_same_structure(relaxed):
    for augment in (RelaxationInterpolation(1.0), DenoisingCorruption(1.0)):
        first, second = (augment(relaxed, np.random.default_rng(5))[0] for _ in range(2))
        np.testing.assert_array_equal(first.positions, second.positions)


def test_corruption_needs_forces():
    with pytest.raises(ValueError, match="forces"):
        DenoisingCorruption()(Structure([[0, 0, 0]], [1]), np.random.default_rng(0))

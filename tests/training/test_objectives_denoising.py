from __future__ import annotations

import jax
import jax.numpy as jnp
import jraph
import numpy as np
import pytest

from equiformer_jax.training.objectives import DenoisingObjective, weighted_loss


def padded_graph(noise_mask):
    """Two graphs of 1 and 2 atoms and padding, of which nothing may count."""
    forces = jnp.array([[3.0, 4, 0], [0, 0, 1], [2, 0, 0], [9, 9, 9]])
    nodes = {"forces": forces}
    if noise_mask is not None:
        nodes["noise_mask"] = jnp.array([*noise_mask, True])
        nodes["noise"] = jnp.array([[0.1, 0, 0], [0.3, 0.4, 0], [0, 0, -0.2], [9, 9, 9]])
    return jraph.GraphsTuple(
        nodes=nodes,
        edges={},
        globals={"energy": jnp.array([1.0, -2.0, 99.0])},
        senders=jnp.zeros(0, jnp.int32),
        receivers=jnp.zeros(0, jnp.int32),
        n_node=jnp.array([1, 2, 1]),
        n_edge=jnp.array([0, 0, 0]),
    )


PREDICTIONS = {
    "energy": jnp.array([1.0, 0.5, 7.0]),
    "forces": jnp.zeros((4, 3)),
    "denoising": jnp.zeros((4, 3)).at[2, 2].set(1.0),
}
OBJECTIVE = DenoisingObjective(
    energy_std=2.0,
    num_epochs=4,
    steps_per_epoch=10,
    energy_weight=3.0,
    force_weight=10.0,
    denoising_weight=6.0,
    noise_std=0.1,
)


def test_loss_by_hand():
    terms = OBJECTIVE.terms(PREDICTIONS, padded_graph([False, True, True]))
    assert float(terms["energy"].value) == pytest.approx((0.5 + 1.5) / 2)
    # The force of the atom in its place, 5 / s; noise over its deviation is (3, 4, 0), (0, 0, -2).
    assert (float(terms["force"].total), int(terms["force"].count)) == (2.5, 1)
    assert float(terms["denoising"].total) == pytest.approx(5.0 + 3.0)
    assert int(terms["denoising"].count) == 2
    loss = weighted_loss(terms, OBJECTIVE.weights_at(25))  # the third epoch: half of 6 is left
    assert float(loss) == pytest.approx(3.0 * 1.0 + 10.0 * 2.5 + 3.0 * 4.0)


def test_metrics_by_hand():
    metrics = OBJECTIVE.metrics(PREDICTIONS, padded_graph([False, True, True]))
    assert float(metrics["energy_mae_mev"].value) == pytest.approx(1000 * (1.0 + 3.0) / 2)
    assert float(metrics["force_mae_mev_per_angstrom"].value) == pytest.approx(1000 * 7 / 3)
    assert float(metrics["noise_mae_angstrom"].value) == pytest.approx((0.7 + 0.3) / 6)


@pytest.mark.parametrize(
    ("noise_mask", "empty"), [([True, True, True], "force"), ([False, False, False], "denoising")]
)
def test_a_term_without_atoms_adds_nothing(noise_mask, empty):
    graph = padded_graph(noise_mask)

    def loss(predictions):
        return weighted_loss(OBJECTIVE.terms(predictions, graph), OBJECTIVE.weights_at(0))

    assert int(OBJECTIVE.terms(PREDICTIONS, graph)[empty].count) == 0
    value, gradient = jax.value_and_grad(loss)(PREDICTIONS)
    assert np.isfinite(value)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))
    assert not gradient["forces" if empty == "force" else "denoising"].any()


def test_without_a_mask_energies_and_forces_are_left():
    predictions = {name: PREDICTIONS[name] for name in ("energy", "forces")}
    terms = OBJECTIVE.terms(predictions, padded_graph(None))
    assert terms.keys() == {"energy", "force"}
    assert int(terms["force"].count) == 3
    metrics = OBJECTIVE.metrics(predictions, padded_graph(None)).keys()
    assert (
        metrics
        == OBJECTIVE.selection.keys()
        == {
            "energy_mae_mev",
            "force_mae_mev_per_angstrom",
        }
    )


def test_the_weight_of_denoising_falls_from_epoch_to_epoch():
    weights = [float(OBJECTIVE.weights_at(step)["denoising"]) for step in (0, 9, 10, 39, 40, 100)]
    np.testing.assert_allclose(weights, [6.0, 6.0, 4.5, 1.5, 0.0, 0.0], rtol=1e-15)


def test_defaults_are_the_published_ones():
    objective = DenoisingObjective(1.0, 1500, 118)
    assert (objective.energy_weight, objective.force_weight) == (1.0, 80.0)
    assert (objective.denoising_weight, objective.noise_std) == (5.0, 0.05)


@pytest.mark.parametrize("name", ["energy_std", "num_epochs", "steps_per_epoch", "noise_std"])
def test_impossible_objectives_are_refused_by_name(name):
    settings = {"energy_std": 1.0, "num_epochs": 1, "steps_per_epoch": 1, "noise_std": 1.0}
    with pytest.raises(ValueError, match=f"{name}=0"):
        DenoisingObjective(**{**settings, name: 0})

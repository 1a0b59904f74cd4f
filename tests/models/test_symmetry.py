"""Symmetries of whole models, on random systems: what must not change, and what must turn along.

Every model here is a preset with fewer channels. Those with `1e` harmonics (SE(3)) promise nothing
about mirror images; those with both parities (E(3)) do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import hypothesis.strategies as st
import jax
import jraph
import numpy as np
import pytest
from hypothesis import given

import equiformer_jax as eqf
from equiformer_jax.models.potential import energy_forces_and_stress
from tests.models.small_models import (
    Predictor,
    assert_close,
    assert_same,
    directional_derivative,
    small_config,
)
from tests.models.small_systems import (
    CRYSTAL_CUTOFF,
    CRYSTALS,
    MOLECULES,
    SHAPES,
    Budget,
    System,
    graph_of,
    random_rotation,
    random_system,
    shuffle_edges,
)

INVERSION = -np.eye(3)
SEEDS = st.integers(0, 2**32 - 1)

MOLECULAR: dict[str, dict[str, Any]] = {
    "md17_l2": {},
    "md17_l3": {},
    "md17_l3_e3": {},
    "md17_l2_dens": {},
    "qm9_linear": {},
    "qm9_dot_product": {},
}
PERIODIC: dict[str, dict[str, Any]] = {
    "oc20_is2re_is2rs": {},
    "oc20_is2re_e3": {
        "irreps_feature": "16x0e+4x0o+4x1e+4x1o",
        "use_auxiliary_task": True,
        "use_atom_edge_attr": True,
    },
}
E3_MODELS = ("md17_l3_e3", "oc20_is2re_e3")
SE3_MODELS = tuple(name for name in [*MOLECULAR, *PERIODIC] if name not in E3_MODELS)


def make_predictor(name: str) -> Predictor:
    if name in PERIODIC:
        config = small_config(name, max_radius=CRYSTAL_CUTOFF, **PERIODIC[name])
        return Predictor(config, CRYSTALS)
    return Predictor(small_config(name, **MOLECULAR[name]), MOLECULES)


@pytest.fixture(scope="module")
def predict(request: pytest.FixtureRequest) -> Iterator[Predictor]:
    """The predictor that a test asks for by name; tests that share one run one after another."""
    yield make_predictor(request.param)


def models(*names: Any) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("predict", names, indirect=True, scope="module")


every_model = models(*MOLECULAR, *PERIODIC)
periodic_models = models(*PERIODIC)


def draw(predict: Predictor, generator: np.random.Generator) -> System:
    return random_system(generator, predict.config.use_tags, generator.choice(SHAPES))


@every_model
def test_the_small_models_are_not_trivial(predict: Predictor) -> None:
    """Else all that follows could hold for a model that ignores its input."""
    first = random_system(np.random.default_rng(0), predict.config.use_tags)
    second = first.moved(0.3 * np.random.default_rng(1).normal(size=first.positions.shape))
    for ours, theirs in zip(predict(first), predict(second), strict=True):
        assert abs(ours.energy - theirs.energy) > 1e-3
        assert np.abs(ours.forces).max() > 1e-2
        assert len(ours.vectors) == predict.config.use_auxiliary_task + predict.config.use_denoising
        for name, vector in ours.vectors.items():
            assert np.abs(vector).max() > 1e-2
            assert np.abs(vector - theirs.vectors[name]).max() > 1e-3


@every_model
@given(seed=SEEDS)
def test_rotation(predict: Predictor, seed: int) -> None:
    """Energies stay, vectors turn; a crystal's cell turns with its atoms."""
    generator = np.random.default_rng(seed)
    system, rotation = draw(predict, generator), random_rotation(generator)
    before, after = predict(system, system.mapped(rotation))
    assert_same(after, before, rotation)


@every_model
@given(seed=SEEDS)
def test_translation(predict: Predictor, seed: int) -> None:
    generator = np.random.default_rng(seed)
    system = draw(predict, generator)
    before, after = predict(system, system.moved(generator.uniform(-20, 20, 3)))
    assert_same(after, before)


@every_model
@given(seed=SEEDS)
def test_permutation_of_atoms(predict: Predictor, seed: int) -> None:
    generator = np.random.default_rng(seed)
    system = draw(predict, generator)
    order = generator.permutation(system.size)
    before, after = predict(system, system.reordered(order))
    assert_close(after.energy, before.energy)
    assert_close(after.forces, before.forces[order])
    for name, vector in after.vectors.items():
        assert_close(vector, before.vectors[name][order])


@every_model
@given(seed=SEEDS)
def test_permutation_of_graphs(predict: Predictor, seed: int) -> None:
    generator = np.random.default_rng(seed)
    first, second = draw(predict, generator), draw(predict, generator)
    ours, theirs = predict(first, second)
    theirs_swapped, ours_swapped = predict(second, first)
    assert_same(ours_swapped, ours)
    assert_same(theirs_swapped, theirs)


@every_model
@given(seed=SEEDS)
def test_a_graph_does_not_see_the_others_of_its_batch(predict: Predictor, seed: int) -> None:
    generator = np.random.default_rng(seed)
    system, other = draw(predict, generator), draw(predict, generator)
    assert_same(predict(system, other)[0], predict(system)[0])
    assert_same(predict(other, system)[1], predict(system)[0])


@every_model
@given(seed=SEEDS)
def test_order_of_edges(predict: Predictor, seed: int) -> None:
    """Edges may come in any order that leaves receivers ascending."""
    generator = np.random.default_rng(seed)
    graph = predict.batch([draw(predict, generator), draw(predict, generator)])
    before = predict.evaluate(graph)
    after = predict.evaluate(shuffle_edges(graph, generator))
    for name, values in before.items():
        assert_close(after[name], values)


@every_model
@given(seed=SEEDS)
def test_contents_of_padding(predict: Predictor, seed: int) -> None:
    """Whatever padding atoms and padding edges hold, nobody sees it."""
    generator = np.random.default_rng(seed)
    system = draw(predict, generator)
    graph = predict.batch([system])
    before = predict.evaluate(graph)
    after = predict.evaluate(scramble_padding(graph, generator))
    assert_close(after["energy"][0], before["energy"][0])
    for name in before.keys() - {"energy"}:
        assert_close(after[name][: system.size], before[name][: system.size])


def scramble_padding(graph: jraph.GraphsTuple, generator: np.random.Generator) -> jraph.GraphsTuple:
    """Random atoms and edges among the padding of a batch with one graph."""
    atoms, edges = graph.n_node[0], graph.n_edge[0]
    nodes = {name: values.copy() for name, values in graph.nodes.items()}
    added = len(nodes["positions"]) - atoms
    nodes["positions"][atoms:] = generator.uniform(0, 4, (added, 3))
    nodes["atomic_numbers"][atoms:] = generator.integers(1, 9, added)
    nodes["tags"][atoms:] = generator.integers(0, 3, added)
    nodes["force_input"][atoms:] = generator.normal(size=(added, 3))
    nodes["noise_mask"][atoms:] = True
    ends = generator.integers(atoms, atoms + added, (2, len(graph.senders) - edges))
    senders, receivers = graph.senders.copy(), graph.receivers.copy()
    senders[edges:], receivers[edges:] = ends[0], np.sort(ends[1])
    return graph._replace(nodes=nodes, senders=senders, receivers=receivers)


@models(
    *(
        pytest.param(name, marks=() if name in ("md17_l2", "qm9_linear") else pytest.mark.slow)
        for name in [*MOLECULAR, *PERIODIC]
    )
)
def test_amount_of_padding(predict: Predictor) -> None:
    """Another shape of the batch is another program, and gives the same numbers."""
    n_node, n_edge, n_graph = predict.budget
    wider = Predictor(predict.config, Budget(n_node + 6, n_edge + 30, n_graph + 3))
    generator = np.random.default_rng(0)
    for _ in range(5):
        first, second = draw(predict, generator), draw(predict, generator)
        for ours, theirs in zip(wider(first, second), predict(first, second), strict=True):
            assert_same(ours, theirs)


@models(*E3_MODELS)
@given(seed=SEEDS)
def test_inversion(predict: Predictor, seed: int) -> None:
    """E(3): mirror images have the same energy, and vectors change their sign."""
    system = draw(predict, np.random.default_rng(seed))
    before, after = predict(system, system.mapped(INVERSION))
    assert_same(after, before, INVERSION)


@models(*SE3_MODELS)
def test_se3_models_tell_mirror_images_apart(predict: Predictor) -> None:
    """SE(3): `1e` labels what are vectors, so cross products are added to vectors.

    Then a chiral system and its mirror image, which no rotation brings together, differ. This is
    what the published SE(3) models do, and no error.
    """
    generator = np.random.default_rng(0)
    system = random_system(generator, predict.config.use_tags, size=6)
    before, after = predict(system, system.mapped(INVERSION))
    assert abs(after.energy - before.energy) > 1e-5


@models(*(name for name in SE3_MODELS if name in MOLECULAR))
@given(seed=SEEDS)
def test_se3_models_do_not_tell_flat_molecules_from_their_mirror_images(
    predict: Predictor, seed: int
) -> None:
    """Inverting a plane is half a turn about its normal.

    Their forces may leave the plane, though: a cross product of vectors in it does.
    """
    generator = np.random.default_rng(seed)
    system = random_system(generator, periodic=False, shape="plane")
    system = system._replace(force_input=0 * system.force_input)
    before, after = predict(system, system.mapped(INVERSION))
    assert_close(after.energy, before.energy)


@every_model
@given(seed=SEEDS)
def test_forces_are_slopes_of_the_energy(predict: Predictor, seed: int) -> None:
    """In a random direction of all atoms at once."""
    generator = np.random.default_rng(seed)
    system = draw(predict, generator)
    direction = generator.normal(size=(system.size, 3))
    direction /= np.linalg.norm(direction)
    slope = directional_derivative(lambda step: predict(system.moved(step * direction))[0].energy)
    forces = predict(system)[0].forces
    assert_close(-slope, np.sum(forces * direction), 1e-6 * min(1, np.abs(forces).max()))


@every_model
@given(seed=SEEDS)
def test_forces_sum_to_zero(predict: Predictor, seed: int) -> None:
    (prediction,) = predict(draw(predict, np.random.default_rng(seed)))
    assert_close(prediction.forces.sum(axis=0), np.zeros(3))


@models(*MOLECULAR)
@given(seed=SEEDS)
def test_molecules_feel_no_torque(predict: Predictor, seed: int) -> None:
    system = draw(predict, np.random.default_rng(seed))
    system = system._replace(force_input=0 * system.force_input)
    (prediction,) = predict(system)
    assert_close(np.cross(system.positions, prediction.forces).sum(axis=0), np.zeros(3))


@periodic_models
@given(seed=SEEDS)
def test_atoms_may_leave_the_cell(predict: Predictor, seed: int) -> None:
    """Each atom moved by lattice vectors of its own: the same crystal."""
    generator = np.random.default_rng(seed)
    system = draw(predict, generator)
    jumps = generator.integers(-2, 3, (system.size, 3)) @ system.cell
    before, after = predict(system, system.moved(jumps))
    assert_same(after, before)


@periodic_models
@pytest.mark.parametrize("axis", (0, 1, 2))
@given(seed=SEEDS)
def test_a_doubled_cell_has_twice_the_energy(predict: Predictor, axis: int, seed: int) -> None:
    """The energy is a sum over atoms, and each atom has the same surroundings as before."""
    system = draw(predict, np.random.default_rng(seed))
    twice = system.reordered(np.tile(np.arange(system.size), 2))
    twice.positions[system.size :] += system.cell[axis]
    twice = twice._replace(cell=system.cell * (1 + np.eye(3)[axis])[:, None])
    (before,), (after,) = predict(system), predict(twice)
    assert_close(after.energy, 2 * before.energy)
    assert_close(after.forces, np.tile(before.forces, (2, 1)))
    for name, vector in after.vectors.items():
        assert_close(vector, np.tile(before.vectors[name], (2, 1)))


stress_model = models("oc20_is2re_is2rs")


@pytest.fixture(scope="module")
def stress_of(predict: Predictor) -> Callable:
    """Energies, forces and stress of systems, padding included."""

    @jax.jit
    def outputs(variables: dict, graph: jraph.GraphsTuple) -> tuple[jax.Array, ...]:
        return energy_forces_and_stress(predict.model, variables, graph)

    return lambda *systems: jax.tree.map(
        np.asarray, outputs(predict.variables, predict.batch(systems))
    )


@stress_model
@given(seed=SEEDS)
def test_stress_is_the_slope_along_a_strain(
    predict: Predictor, stress_of: Callable, seed: int
) -> None:
    generator = np.random.default_rng(seed)
    system = draw(predict, generator)
    strain = generator.normal(size=(3, 3))
    strain = (strain + strain.T) / np.linalg.norm(strain + strain.T)

    def energy(step: float) -> float:
        return predict(system.mapped(np.eye(3) + step * strain))[0].energy

    stress = stress_of(system)[2][0]
    volume = abs(np.linalg.det(system.cell))
    slope = directional_derivative(energy)
    assert_close(np.sum(stress * strain) * volume, slope, tolerance=1e-6)
    assert_close(stress, stress.T)


@stress_model
@given(seed=SEEDS)
def test_stress_turns_with_the_crystal(predict: Predictor, stress_of: Callable, seed: int) -> None:
    generator = np.random.default_rng(seed)
    system, rotation = draw(predict, generator), random_rotation(generator)
    before, after, *_ = stress_of(system, system.mapped(rotation))[2]
    assert_close(after, rotation @ before @ rotation.T)


@stress_model
def test_stress_comes_with_energy_and_forces(predict: Predictor, stress_of: Callable) -> None:
    system = random_system(np.random.default_rng(0), periodic=True)
    energy, forces, stress = stress_of(system)
    assert np.isfinite(energy).all()
    assert not stress[1:].any()  # padding has no volume
    (expected,) = predict(system)
    assert_close(energy[0], expected.energy)
    assert_close(forces[: system.size], expected.forces)


def test_stress_needs_a_cell() -> None:
    config = eqf.get_preset("md17_l2")
    graph = graph_of(random_system(np.random.default_rng(0), periodic=False), config.max_radius)
    with pytest.raises(ValueError, match="no 'cell'; stress needs a periodic system"):
        energy_forces_and_stress(eqf.Equiformer(config), {}, graph)

"""`energy_and_forces`: one program per shape, batches, heads, inputs for denoising, dropout."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax
import jraph
import numpy as np
import pytest

import equiformer_jax as eqf
from equiformer_jax.models import equiformer
from tests.models.small_models import (
    Predictor,
    assert_close,
    assert_same,
    directional_derivative,
    random_variables,
    small_config,
)
from tests.models.small_systems import (
    CRYSTAL_CUTOFF,
    CRYSTALS,
    MOLECULES,
    System,
    batch_of,
    graph_of,
    random_system,
    system_of,
)

# The smallest model that is still one.
TINY = {
    "num_layers": 1,
    "irreps_node_embedding": "4x0e+2x1e",
    "irreps_sh": "1x0e+1x1e",
    "irreps_head": "2x0e+1x1e",
    "irreps_mlp_mid": "4x0e+2x1e",
    "irreps_feature": "4x0e",
}


def tiny_config(**overrides: Any) -> eqf.EquiformerConfig:
    return small_config("md17_l2_linear", **(TINY | overrides))


def molecule(seed: int, size: int | None = None) -> System:
    return random_system(np.random.default_rng(seed), periodic=False, size=size)


# --- Compilation ---


@pytest.fixture
def traces(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[int, ...]]]:
    """Grows by the number of atoms each time that the network is traced."""
    found: list[tuple[int, ...]] = []
    check = equiformer.check_graph

    def count(graph: jraph.GraphsTuple, config: eqf.EquiformerConfig) -> None:
        found.append(graph.nodes["positions"].shape)
        check(graph, config)

    monkeypatch.setattr(equiformer, "check_graph", count)
    yield found


def test_compiled_once_per_shape(traces: list) -> None:
    """Neither new values, nor new weights, nor a new object for the same model trace again."""
    config = tiny_config()
    graphs = [batch_of([molecule(seed)], 5.0, MOLECULES) for seed in range(4)]
    variables = random_variables(eqf.Equiformer(config), graphs[0])
    more_weights = jax.tree.map(lambda x: 1.1 * x, variables)
    traces.clear()
    energies = []
    for graph in graphs:
        for weights in (variables, more_weights):
            energy, _ = eqf.energy_and_forces(eqf.Equiformer(config), weights, graph)
            energies.append(float(energy[0]))
    assert traces == [(MOLECULES.n_node, 3)]
    assert len(set(energies)) == 8

    wider = batch_of([molecule(0)], 5.0, MOLECULES._replace(n_node=20))
    for _ in range(2):
        energy, forces = eqf.energy_and_forces(eqf.Equiformer(config), variables, wider)
    assert traces == [(MOLECULES.n_node, 3), (20, 3)]
    assert_close(energy[0], energies[0])
    assert forces.shape == (20, 3)


# --- Batches and heads ---

EXPECTED_VECTORS = {
    "md17_l2_linear": set(),
    "oc20_is2re_is2rs": {"displacement"},
    "md17_l2_dens": {"denoising"},
}


@pytest.fixture(scope="module")
def predict(request: pytest.FixtureRequest) -> Predictor:
    """A predictor by the name of its preset, shared by the tests that use it."""
    name = request.param
    fields = dict(TINY)
    if name == "md17_l2_dens":
        vectors = "1x0e+1x1e"
        fields |= {"irreps_feature": "4x0e+2x1e", "irreps_equivariant_inputs": vectors}
        fields |= {"irreps_pre_attn": "4x0e+2x1e"}
    if name.startswith("oc20"):
        fields |= {"irreps_feature": "4x0e+2x1e", "irreps_pre_attn": "4x0e+2x1e"}
        fields |= {"max_radius": CRYSTAL_CUTOFF}
    budget = CRYSTALS if name.startswith("oc20") else MOLECULES
    return Predictor(small_config(name, **fields), budget)


every_head = pytest.mark.parametrize(
    "predict", list(EXPECTED_VECTORS), indirect=True, scope="module"
)
dens = pytest.mark.parametrize("predict", ["md17_l2_dens"], indirect=True, scope="module")


@every_head
def test_outputs(predict: Predictor, request: pytest.FixtureRequest) -> None:
    periodic = predict.config.use_tags
    system = random_system(np.random.default_rng(0), periodic)
    outputs = predict.evaluate(predict.batch([system]))
    vectors = EXPECTED_VECTORS[request.node.callspec.params["predict"]]
    assert set(outputs) == {"energy", "forces"} | vectors
    assert outputs["energy"].shape == (predict.budget.n_graph,)
    for name in outputs.keys() - {"energy"}:
        assert outputs[name].shape == (predict.budget.n_node, 3)
        assert np.isfinite(outputs[name]).all()


@every_head
def test_two_systems_in_a_batch_and_each_alone(predict: Predictor) -> None:
    generator = np.random.default_rng(1)
    first, second = (random_system(generator, predict.config.use_tags) for _ in range(2))
    together = predict(first, second)
    for system, prediction in zip((first, second), together, strict=True):
        assert_same(prediction, predict(system)[0])


# --- Denoising ---


def noisy_molecule() -> System:
    """Five atoms, the first and fourth of which are corrupted."""
    return molecule(3, size=5)._replace(noise_mask=np.array([True, False, False, True, False]))


@dens
def test_force_input_of_atoms_without_noise_is_not_read(predict: Predictor) -> None:
    system = noisy_molecule()
    for value in (7.0, np.nan):
        forces = np.where(system.noise_mask[:, None], system.force_input, value)
        assert_same(predict(system._replace(force_input=forces))[0], predict(system)[0])


@dens
def test_force_input_of_every_corrupted_atom_is_read(predict: Predictor) -> None:
    system = noisy_molecule()
    before = predict(system)[0]
    for atom in np.flatnonzero(system.noise_mask):
        forces = system.force_input.copy()
        forces[atom] += 1.0
        after = predict(system._replace(force_input=forces))[0]
        assert abs(after.energy - before.energy) > 1e-4
        assert np.abs(after.vectors["denoising"] - before.vectors["denoising"]).max() > 1e-4


@dens
def test_noise_mask_matters_where_there_is_a_force(predict: Predictor) -> None:
    system = noisy_molecule()
    unmasked = system._replace(noise_mask=np.zeros(5, bool))
    assert abs(predict(unmasked)[0].energy - predict(system)[0].energy) > 1e-4
    no_forces = system._replace(force_input=np.zeros((5, 3)))
    assert_same(predict(no_forces)[0], predict(unmasked)[0])


@dens
@pytest.mark.parametrize(
    ("missing", "same_as"),
    [
        # No force input is one of zeros; without a mask the force of every atom is read.
        (("force_input", "noise_mask"), {"force_input": np.zeros((5, 3))}),
        (("noise_mask",), {"noise_mask": np.ones(5, bool)}),
    ],
)
def test_inputs_for_denoising_may_be_missing(
    predict: Predictor, missing: tuple[str, ...], same_as: dict[str, np.ndarray]
) -> None:
    system = noisy_molecule()
    graph = predict.batch([system])
    graph = graph._replace(nodes={k: v for k, v in graph.nodes.items() if k not in missing})
    energy = jax.jit(predict.model.apply)(predict.variables, graph)["energy"]
    assert_close(energy[0], predict(system._replace(**same_as))[0].energy)


# --- Dropout ---


class Dropout:
    """A model with every kind of dropout, with and without."""

    def __init__(self) -> None:
        rates = ("alpha_drop", "proj_drop", "out_drop", "drop_path_rate")
        self.model = eqf.Equiformer(tiny_config(**dict.fromkeys(rates, 0.3), num_layers=2))
        example = graph_of(system_of([[0.0, 0, 0], [0, 0, 1]]), 5.0)
        self.variables = random_variables(self.model, example)
        self._outputs = jax.jit(self._trace, static_argnums=2)

    def _trace(self, graph: jraph.GraphsTuple, seed: int, deterministic: bool) -> Any:
        return eqf.energy_and_forces(
            self.model, self.variables, graph, deterministic, {"dropout": jax.random.key(seed)}
        )

    def __call__(
        self, system: System, seed: int, deterministic: bool = False
    ) -> tuple[float, np.ndarray]:
        """Energy and forces of one system."""
        graph = batch_of([system], 5.0, MOLECULES)
        energy, forces = self._outputs(graph, seed, deterministic)
        return float(energy[0]), np.asarray(forces[: system.size])


@pytest.fixture(scope="module")
def dropout() -> Dropout:
    return Dropout()


def test_dropout_follows_its_key(dropout: Dropout) -> None:
    energies = [dropout(molecule(5), seed)[0] for seed in (1, 2, 3, 1)]
    assert energies[0] == energies[3]
    assert len(set(energies)) == 3
    assert np.isfinite(energies).all()


def test_forces_with_dropout_are_slopes_of_the_energy_with_the_same_draws(
    dropout: Dropout,
) -> None:
    system = molecule(5)
    direction = np.random.default_rng(0).normal(size=(system.size, 3))

    def energy(step: float) -> float:
        return dropout(system.moved(step * direction), seed=4)[0]

    slope = directional_derivative(energy)
    forces = dropout(system, seed=4)[1]
    assert np.abs(forces).max() > 1e-3
    assert_close(-slope, np.sum(forces * direction), 1e-7)


def test_without_dropout_the_key_does_not_matter(dropout: Dropout) -> None:
    energies = [dropout(molecule(5), seed, deterministic=True)[0] for seed in (1, 2)]
    assert energies[0] == energies[1]
    assert energies[0] != dropout(molecule(5), seed=1)[0]


def test_dropout_without_a_key_is_refused(dropout: Dropout) -> None:
    graph = batch_of([molecule(5)], 5.0, MOLECULES)
    with pytest.raises(Exception, match="dropout"):
        eqf.energy_and_forces(dropout.model, dropout.variables, graph, deterministic=False)

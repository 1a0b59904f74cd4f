from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from equiformer_jax.graph import build_graph
from equiformer_jax.models.presets import get_preset, list_presets
from equiformer_jax.training.configuration import model_settings
from experiments.benchmarks import structures
from experiments.benchmarks.arithmetic import count_matrix_flops
from experiments.benchmarks.cases import CASES, find_case
from experiments.benchmarks.timing import Machine, Stepper, time_in_turn
from experiments.configs import md17, oc20_is2re, qm9
from experiments.tpu.sizes import SYSTEMS


def test_every_case_names_a_model_and_makes_its_structures():
    for case in CASES.values():
        assert case.preset in list_presets()
        assert len(case.make(1)) == 1


@pytest.mark.parametrize(
    ("make", "atoms", "edges"),
    [
        (structures.aspirin, 21, 304),
        (structures.qm9_like, 18, 271),
        (structures.chains(60), 60, 1325),
        (structures.slabs, 80, 2709),
        (structures.double_walled_nanotube, 370, None),
    ],
)
def test_structures_are_as_large_as_the_real_ones(make, atoms, edges):
    made = make(16)
    sizes = [structure.num_atoms for structure in made]
    assert np.mean(sizes) == pytest.approx(atoms, rel=0.1)
    if edges is not None:
        counts = [int(build_graph(structure, 5.0).n_edge[0]) for structure in made]
        assert np.mean(counts) == pytest.approx(edges, rel=0.2)


def test_products_in_loops_count_as_often_as_they_run():
    matrix = jnp.ones((3, 4))

    def once(x):
        return matrix @ x

    def looped(x):
        return jax.lax.scan(lambda c, _: (c + (matrix @ x).sum(), None), 0.0, length=5)[0]

    x = jnp.ones((4, 7))
    assert count_matrix_flops(once, x) == 2 * 3 * 4 * 7
    assert count_matrix_flops(jax.jit(looped), x) == 5 * 2 * 3 * 4 * 7


def test_steps_are_taken_in_turn_and_a_donated_state_is_carried_on():
    step = jax.jit(lambda state, batch: (state + batch, batch), donate_argnums=0)
    steppers = {name: Stepper(step, (jnp.zeros(3), jnp.ones(3)), True) for name in "ab"}
    machine = Machine()
    time_in_turn(steppers, machine, rounds=3)
    assert len(machine.matrix_seconds) == 4
    for stepper in steppers.values():
        assert len(stepper.seconds) == 3
        np.testing.assert_array_equal(stepper._carried, 4 * np.ones(3))
        assert stepper.compile_seconds.keys() == {"cold", "cached"}


@pytest.mark.parametrize("name", SYSTEMS)
def test_systems_of_md22_are_as_dense_as_the_real_ones(name):
    (structure,) = structures.md22_system(name)(1)
    assert structure.num_atoms == SYSTEMS[name].atoms
    edges = int(build_graph(structure, 5.0).n_edge[0])
    assert 0.95 < edges / SYSTEMS[name].edges < 1.6


def test_fields_of_the_model_are_changed_behind_the_name_of_a_case():
    case = find_case("qm9_forward,remat=True,edge_block_size=None")
    assert case.config == get_preset("qm9", remat=True)
    assert dataclasses.replace(case, changes=CASES["qm9"].changes) == CASES["qm9_forward"]


@pytest.mark.parametrize(
    ("name", "recipe"), [("qm9", qm9), ("oc20_is2re", oc20_is2re), ("md17_l2_aspirin", md17)]
)
def test_a_case_has_the_model_of_the_configuration_that_trains_it(name, recipe):
    assert recipe.get_config().model == model_settings(CASES[name].config)


def test_batches_and_structures_of_a_case_are_changed():
    case = find_case("qm9,batch_size=3,atoms=7")
    assert case.batch_size == 3
    assert [structure.num_atoms for structure in case.make(2)] == [7, 7]
    assert case.config == CASES["qm9"].config


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("water", "case='water'; known are"),
        ("qm9,remat", "'remat'; expected FIELD=VALUE"),
        ("qm9,rematerialize=True", "rematerialize"),
        ("qm9,num_layers=many", "num_layers is 'many'"),
        ("qm9,atoms=0", "atoms=0; expected a whole number"),
        ("qm9,batch_size=many", "batch_size='many'"),
    ],
)
def test_a_mistyped_case_is_named(text, message):
    with pytest.raises(ValueError, match=message):
        find_case(text)


def test_cases_are_not_changed_by_accident():
    with pytest.raises(dataclasses.FrozenInstanceError):
        CASES["qm9"].batch_size = 1

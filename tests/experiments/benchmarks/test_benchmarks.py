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
from experiments.benchmarks.cases import CASES, DYNAMICS, FORCES, FORWARD, TRAIN, find_case
from experiments.benchmarks.timing import Machine, Stepper, time_in_turn
from experiments.configs import md17, md22, oc20_is2re, qm9
from experiments.tpu.sizes import SYSTEMS


def test_every_case_names_a_model_and_makes_its_structures():
    assert all(case.preset in list_presets() for case in CASES.values())
    for make in {case.make for case in CASES.values()}:
        assert len(make(1)) == 1


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

    def carry(result, arguments):
        return (result[0], arguments[1])

    steppers = {
        name: Stepper(step, (jnp.zeros(3), jnp.ones(3)), advance)
        for name, advance in (("carried", carry), ("also", carry))
    }
    machine = Machine()
    time_in_turn(steppers, machine, rounds=3)
    assert len(machine.matrix_seconds) == 4 * 3
    for stepper in steppers.values():
        assert len(stepper.seconds) == len(stepper.processor_seconds) == 3
        np.testing.assert_array_equal(stepper.arguments[0], 4 * np.ones(3))
        assert stepper.compile_seconds.keys() == {"cold", "cached"}


def test_every_other_round_goes_backwards():
    order = []

    class Noted:
        def __init__(self, name):
            self.step = lambda: order.append(name)
            self.forget = order.clear
            self.measure = lambda: None

    time_in_turn({name: Noted(name) for name in "ab"}, Noted("machine"), rounds=3)
    assert order == ["a", "b", "b", "a", "a", "b"]


def test_a_machine_copies_into_the_same_memory_and_multiplies_in_float32_everywhere():
    machine = Machine()
    before = machine._block.unsafe_buffer_pointer()
    machine.measure()
    assert machine._block.unsafe_buffer_pointer() == before
    assert len(machine.copy_seconds) == 1
    text = str(jax.make_jaxpr(machine._multiply)(machine._matrix))
    assert "Precision.HIGHEST" in text and "f32[2048,2048]" in text


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
    ("name", "recipe"),
    [
        ("qm9", qm9),
        ("oc20_is2re", oc20_is2re),
        ("md17_l2_aspirin", md17),
        ("md22_AT-AT", md22),
        ("md17_l2_aspirin,atoms=400", md22),
    ],
)
def test_a_case_has_the_model_of_the_configuration_that_trains_it(name, recipe):
    assert recipe.get_config().model == model_settings(find_case(name).config)


def test_batches_and_structures_of_a_case_are_changed():
    case = find_case("qm9,batch_size=3,atoms=7")
    assert case.batch_size == 3
    assert [structure.num_atoms for structure in case.make(2)] == [7, 7]
    assert case.config == CASES["qm9"].config


def test_model_and_step_of_a_case_are_changed():
    case = find_case("qm9,preset=md17_l3,kind=forces,remat=True")
    assert (case.preset, case.kind, case.batch_size) == ("md17_l3", FORCES, 64)
    assert case.config == get_preset("md17_l3", remat=True)  # MD17's recipe has no blocks
    assert case.learns_forces and not CASES["qm9"].learns_forces
    assert find_case("md17_l2_aspirin,kind=dynamics").batch_size == 1
    changed = find_case("md17_l2_linear_aspirin,kind=forces")
    assert changed == CASES["md17_l2_linear_aspirin_forces"]


@pytest.mark.parametrize(
    ("change", "kept"),
    [("remat=True", True), ("edge_block_size=64", True), ("num_layers=1", False)]
    + [("kind=forces", False), ("preset=md17_l3", False), ("batch_size=4", False)],
)
def test_the_official_time_is_kept_where_the_same_is_computed(change, kept):
    assert (find_case(f"md17_l2_aspirin,{change}").official is not None) == kept


_PRESETS = [*("qm9", "qm9_linear", "qm9_dot_product", "oc20_is2re", "oc20_is2re_linear")]
_PRESETS += ["oc20_is2re_dot_product", "oc20_ablation_1", "oc20_ablation_2", "oc20_ablation_3"]
_REQUIRED = [
    *(("md17_l2_aspirin", 8), ("md17_l2_aspirin_batch_5", 5), ("md17_l2_aspirin_batch_1", 1)),
    *(("md17_l3_aspirin", 8), ("md17_l3_aspirin_batch_5", 5)),
    *(("md17_l2_linear_aspirin", 8), ("md17_l2_dot_product_aspirin", 8)),
    *((preset, 4 if preset.startswith("oc20") else 64) for preset in _PRESETS),
    *(("oc20_is2re_batch_2", 2), ("md22_60_atoms", 4), ("md22_AT-AT_batch_4", 4)),
    *((f"md22_{name}", 1) for name in SYSTEMS),
]


@pytest.mark.parametrize(("name", "batch_size"), _REQUIRED)
def test_a_model_has_training_forces_and_forward(name, batch_size):
    base, _, size = name.partition("_batch_")
    for kind in (TRAIN, FORCES, FORWARD):
        step = base if kind == TRAIN else f"{base}_{kind}"
        case = CASES[f"{step}_batch_{size}" if size else step]
        assert (case.kind, case.batch_size) == (kind, batch_size)
        assert case.learns_forces == (not name.startswith(("qm9", "oc20")))


@pytest.mark.parametrize("name", ["md17_l2", "md17_l2_linear", "md17_l2_dot_product", "md17_l3"])
def test_models_of_md17_have_dynamics(name):
    case = CASES[f"{name}_aspirin_dynamics"]
    assert (case.preset, case.kind, case.batch_size) == (name, DYNAMICS, 1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("water", "case='water'; known are"),
        ("qm9,remat", "'remat'; expected FIELD=VALUE"),
        ("qm9,rematerialize=True", "rematerialize"),
        ("qm9,num_layers=many", "num_layers is 'many'"),
        ("qm9,atoms=0", "atoms=0; expected a whole number"),
        ("qm9,batch_size=many", "batch_size='many'"),
        ("qm9,batch_size=True", "batch_size=True; expected a whole number"),
        ("qm9,preset=md71_l2", "case='qm9,preset=md71_l2': unknown preset 'md71_l2'; near it"),
        ("qm9,kind=backward", "kind='backward'; expected one of train, forces, forward, dynamics"),
        ("md17_l2_aspirin_dynamics,batch_size=2", "batch_size=2; a step of dynamics has one"),
    ],
)
def test_a_mistyped_case_is_named(text, message):
    with pytest.raises(ValueError, match=message):
        find_case(text)


def test_cases_are_not_changed_by_accident():
    with pytest.raises(dataclasses.FrozenInstanceError):
        CASES["qm9"].batch_size = 1

"""Options of a model that change how it computes, or what it does in training."""

from __future__ import annotations

import flax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import equiformer_jax as eqf

CUTOFF = 4.0


def small_model(**overrides) -> eqf.Equiformer:
    """One layer, few channels, degrees 0 and 1."""
    fields = {
        "irreps_node_embedding": "8x0e+4x1e",
        "irreps_sh": "1x0e+1x1e",
        "irreps_feature": "8x0e+2x1e",
        "irreps_head": "4x0e+2x1e",
        "irreps_mlp_mid": "8x0e+4x1e",
        "num_layers": 1,
        "num_heads": 2,
        "max_radius": CUTOFF,
        "number_of_basis": 8,
        "basis_type": "exp",
        "fc_neurons": (8,),
        "avg_degree": 3.0,
        "max_atom_type": 10,
    }
    return eqf.Equiformer(eqf.EquiformerConfig(**fields | overrides))


def graph_of(positions):
    """A molecule, padded to 8 atoms and 64 edges whatever its neighbors."""
    structure = eqf.Structure(positions, [8, 1, 6, 1, 7, 1][: len(positions)])
    graph = eqf.build_graph(structure, CUTOFF)
    return eqf.batch_graphs([graph], n_node=8, n_edge=64, n_graph=2)


@pytest.fixture
def graph():
    return graph_of(np.random.default_rng(0).uniform(0, 3, size=(6, 3)))


def random_variables(model, graph):
    """Like new parameters, but those that would be zeros or ones are moved a little."""
    shapes, rng = jax.eval_shape(model.init, jax.random.key(0), graph), np.random.default_rng(0)

    def draw(path, leaf):
        name, numbers = path[-1].key, rng.normal(size=leaf.shape)
        if name in ("affine_weight", "scale"):
            return 1 + 0.1 * numbers
        if name in ("affine_bias", "bias", "offset"):
            return 0.1 * numbers
        return numbers / (leaf.shape[-2] if leaf.ndim > 1 else 1) ** 0.5

    return jax.tree_util.tree_map_with_path(draw, shapes)


def energy_and_forces(model):
    return jax.jit(lambda variables, graph: eqf.energy_and_forces(model, variables, graph))


def test_every_layer_of_the_stack_starts_elsewhere(graph):
    scalars = {"irreps_node_embedding": "4x0e", "irreps_sh": "1x0e", "irreps_head": "2x0e"}
    model = small_model(num_layers=4, irreps_mlp_mid="4x0e", irreps_feature="4x0e", **scalars)
    params = jax.jit(model.init)(jax.random.key(0), graph)["params"]
    stacked = [np.asarray(x) for x in jax.tree.leaves(params["blocks"])]
    assert {len(x) for x in stacked} == {3}
    drawn = [x for x in stacked if np.unique(x).size > 1]
    assert len(drawn) > 10
    for x in drawn:
        for first, second in ((0, 1), (0, 2), (1, 2)):
            assert (x[first] != x[second]).all()


@pytest.mark.parametrize("rate", ["alpha_drop", "proj_drop", "out_drop", "drop_path_rate"])
def test_dropout_changes_values_in_training_only(rate, graph):
    plain, model = small_model(), small_model(**{rate: 0.4})
    variables = random_variables(plain, graph)

    @jax.jit
    def energies(variables, key):
        evaluated = [m.apply(variables, graph)["energy"][0] for m in (plain, model)]
        training = model.apply(variables, graph, deterministic=False, rngs={"dropout": key})
        return *evaluated, training["energy"][0]

    draws = [energies(variables, jax.random.key(seed)) for seed in range(6)]
    again = energies(variables, jax.random.key(0))
    assert all(without == evaluated for without, evaluated, _ in draws)
    assert len({float(training) for _, _, training in draws} - {float(draws[0][0])}) > 1
    assert again == draws[0]


def test_dropout_asks_for_its_random_stream(graph):
    model = small_model(alpha_drop=0.2)
    variables = random_variables(model, graph)
    with pytest.raises(flax.errors.InvalidRngError, match="dropout"):
        jax.eval_shape(lambda v: model.apply(v, graph, deterministic=False), variables)


@pytest.mark.parametrize("attention", ["mlp", "dot_product"])
def test_numpy_parameters_may_be_constants_of_a_compiled_function(attention, graph):
    """As they come from a checkpoint of the official release."""
    model = small_model(attention=attention, basis_type="gaussian", use_atom_edge_attr=True)
    variables = random_variables(model, graph)
    energy = jax.eval_shape(lambda graph: model.apply(variables, graph), graph)["energy"]
    assert energy.shape == (2,)


@pytest.mark.parametrize(
    "overrides", [{"num_layers": 2}, {"attention": "dot_product"}], ids=["mlp", "dot_product"]
)
def test_bfloat16_is_close_and_its_energies_and_forces_are_float32(overrides, graph, float32_mode):
    exact, fast = (small_model(**overrides, compute_dtype=dtype) for dtype in (None, "bfloat16"))
    variables = random_variables(exact, graph)
    wanted, wanted_forces = energy_and_forces(exact)(variables, graph)
    energy, forces = energy_and_forces(fast)(variables, graph)
    assert energy.dtype == forces.dtype == jnp.float32
    length = float(np.linalg.norm(wanted_forces))
    assert 0 < np.linalg.norm(forces - wanted_forces) < 3e-2 * length
    # An energy is a sum of terms that may cancel: measured by what moving by 1 A would change.
    assert 0 < abs(energy[0] - wanted[0]) < 3e-2 * length


def crossing(distance: float) -> np.ndarray:
    """The last atom's only neighbor is at `distance`."""
    return np.array([[0.0, 0, 0], [0, 1.1, 0], [distance, 1.1, 0.0]])


def jumps(model) -> tuple[float, float]:
    """Largest change of energy and forces while one distance crosses the cutoff."""
    graphs = [graph_of(crossing(CUTOFF + change)) for change in (-1e-7, 1e-7)]
    evaluate, variables = energy_and_forces(model), random_variables(model, graphs[0])
    before, after = (evaluate(variables, graph) for graph in graphs)
    return tuple(float(np.abs(x - y).max()) for x, y in zip(before, after, strict=True))


@pytest.mark.parametrize(
    "overrides",
    [{}, {"attention": "dot_product"}, {"rescale_degree": True}],
    ids=["mlp", "dot_product", "rescale_degree"],
)
def test_a_smooth_cutoff_lets_an_atom_go_without_a_jump(overrides):
    energy, forces = jumps(small_model(smooth_cutoff=True, **overrides))
    assert energy < 1e-6
    assert forces < 1e-5


def test_the_published_model_jumps_at_the_cutoff():
    energy, forces = jumps(small_model())
    assert energy > 1e-3
    assert forces > 1e-3

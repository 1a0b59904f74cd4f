"""What a user can get wrong about models and graphs: each mistake has an error that names it."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import jax
import jraph
import numpy as np
import pytest

import equiformer_jax as eqf
from equiformer_jax.graph import require_edges
from tests.models.small_models import Predictor, small_config
from tests.models.small_systems import MOLECULES, batch_of, graph_of, system_of

WATER = system_of([[0.0, 0, 0], [0.76, 0.59, 0], [-0.76, 0.59, 0]], [8, 1, 1])


# --- Presets and fields ---


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("md17l2", "md17_l2"),
        ("MD17_L3_E3", "md17_l3_e3"),
        ("qm9_liner", "qm9_linear"),
        ("oc20_is2re_is2sr", "oc20_is2re_is2rs"),
        ("graph_attention_transformer_l2_md71", "graph_attention_transformer_l2_md17"),
        ("no such thing", "md17_l2"),
    ],
)
def test_an_unknown_preset(name: str, near: str) -> None:
    with pytest.raises(ValueError, match=f"unknown preset {name!r}; near it are .*{near}"):
        eqf.get_preset(name)


@pytest.mark.parametrize(
    ("field", "near"),
    [("num_layer", "num_layers"), ("alphadrop", "alpha_drop"), ("zzz", "irreps_node_embedding")],
)
def test_an_unknown_field(field: str, near: str) -> None:
    with pytest.raises(ValueError, match=f"unknown field '{field}' .*near it are .*{near}"):
        eqf.get_preset("md17_l2", **{field: 1})


def refused(match: str, **fields: Any) -> None:
    """The fields are refused, by whichever way a configuration is made."""
    for make in (
        lambda: eqf.get_preset("md17_l2", **fields),
        lambda: eqf.EquiformerConfig(**fields),
        lambda: dataclasses.replace(eqf.EquiformerConfig(), **fields),
    ):
        with pytest.raises(ValueError, match=match):
            make()


@pytest.mark.parametrize(
    ("field", "value", "named"),
    [
        ("basis_type", "gauss", "gaussian"),
        ("attention", "dot", "dot_product"),
        ("norm_layer", "batch", "fast_layer"),
        ("compute_dtype", "float16", "bfloat16"),
        ("matmul_precision", "best", "highest"),
    ],
)
def test_a_choice_that_is_none(field: str, value: str, named: str) -> None:
    refused(f"EquiformerConfig.{field} is '{value}'; expected one of .*'{named}'", **{field: value})


COUNTS = ("num_layers", "num_heads", "number_of_basis", "max_atom_type", "max_neighbors")


@pytest.mark.parametrize("field", COUNTS)
@pytest.mark.parametrize("value", [0, -1])
def test_counts_below_one(field: str, value: int) -> None:
    refused(f"EquiformerConfig.{field} is {value}; expected at least 1", **{field: value})


@pytest.mark.parametrize("field", COUNTS)
@pytest.mark.parametrize("value", [2.5, "6", True])
def test_counts_that_are_no_whole_numbers(field: str, value: Any) -> None:
    refused(f"EquiformerConfig.{field} is {value!r}; expected a whole number", **{field: value})


@pytest.mark.parametrize("field", ["max_radius", "avg_degree", "avg_num_nodes"])
@pytest.mark.parametrize("value", [0.0, -5.0, float("nan"), float("inf"), "5", None])
def test_sizes_that_are_not_positive(field: str, value: Any) -> None:
    refused(f"EquiformerConfig.{field} is {value!r}; expected a positive number", **{field: value})


@pytest.mark.parametrize("field", ["alpha_drop", "proj_drop", "out_drop", "drop_path_rate"])
@pytest.mark.parametrize("value", [-0.1, 1.0, float("nan"), "0.1", None])
def test_rates_outside_their_range(field: str, value: Any) -> None:
    refused(f"EquiformerConfig.{field} is {value!r}; expected 0 <= rate < 1", **{field: value})


def test_a_radial_network_without_hidden_layers() -> None:
    for widths in ((), 64, None, "64"):
        message = f"EquiformerConfig.fc_neurons is {widths!r}; expected at least one hidden width"
        refused(re.escape(message), fc_neurons=widths)
    refused("EquiformerConfig.fc_neurons is 64.5; expected a whole number", fc_neurons=(64.5,))
    refused("EquiformerConfig.fc_neurons is 0; expected at least 1", fc_neurons=(64, 0))


@pytest.mark.parametrize("rows", [(0, 1), (1, -6), (1, 119), (1, 6, 6)])
def test_rows_of_no_element_or_twice_the_same(rows: tuple[int, ...]) -> None:
    message = f"atomic_number_map is {rows}; expected different atomic numbers, 1 to 118"
    refused(re.escape(message), atomic_number_map=rows)


def test_more_elements_than_rows() -> None:
    refused(
        "atomic_number_map has 3 elements, more than max_atom_type=2",
        atomic_number_map=(1, 6, 8),
        max_atom_type=2,
    )


# --- Irreps ---

IRREPS_FIELDS = (
    "irreps_node_embedding",
    "irreps_sh",
    "irreps_feature",
    "irreps_head",
    "irreps_pre_attn",
    "irreps_mlp_mid",
    "irreps_atom_edge_attr",
    "irreps_equivariant_inputs",
)


@pytest.mark.parametrize("field", IRREPS_FIELDS)
@pytest.mark.parametrize(
    ("irreps", "reason"),
    [
        ("128x0e+64x", "is not a list of irreps such as '128x0e"),
        ("scalars", "is not a list of irreps such as '128x0e"),
        ("", "is empty"),
        ("0x0e", "is empty"),
        ("4x1e+8x0e", "ascending degree, even parity first, as in '8x0e+4x1e'"),
        ("8x0o+8x0e", "ascending degree, even parity first, as in '8x0e+8x0o'"),
        ("8x0e+4x1e+8x0e", "even parity first, as in '16x0e+4x1e'"),
    ],
)
def test_irreps_that_are_none_or_out_of_order(field: str, irreps: str, reason: str) -> None:
    named = re.escape(f"EquiformerConfig.{field}={irreps!r}")
    refused(f"{named}.*{re.escape(reason)}", **{field: irreps})


@pytest.mark.parametrize(
    "field", ["irreps_node_embedding", "irreps_feature", "irreps_head", "irreps_mlp_mid"]
)
def test_irreps_without_even_scalars(field: str) -> None:
    refused(f"EquiformerConfig.{field}='8x0o.4x1e' has no 0e", **{field: "8x0o+4x1e"})


@pytest.mark.parametrize("field", ["irreps_sh", "irreps_equivariant_inputs"])
@pytest.mark.parametrize(
    "irreps", ["1x1e", "1x0e+2x1e", "1x0e+1x2e", "1x0e+1x1e+1x1o", "1x0o+1x1e", "1x0e+1x1o+1x2o"]
)
def test_harmonics_that_skip_or_repeat_a_degree_or_have_no_such_parity(
    field: str, irreps: str
) -> None:
    message = f"{field}={irreps!r}: expected one copy of each degree from 0 up"
    refused(re.escape(message), **{field: irreps})


def test_harmonics_of_forces_unlike_those_of_edges() -> None:
    message = r"irreps_equivariant_inputs='1x0e\+1x1o' has 1o, which irreps_sh='.*' has not"
    refused(message, irreps_equivariant_inputs="1x0e+1x1o")


@pytest.mark.parametrize(
    ("fields", "missing"),
    [
        ({"irreps_head": "32x0e+16x1o"}, "1o"),
        ({"irreps_head": "32x0e+8x5e"}, "5e"),
        ({"irreps_pre_attn": "128x0e", "irreps_sh": "1x0e"}, "1e"),
        ({"irreps_node_embedding": "128x0e", "irreps_sh": "1x0e+1x1e"}, "2e"),
    ],
)
def test_heads_out_of_reach_of_the_message(fields: dict[str, str], missing: str) -> None:
    refused(f"irreps_head='.*' asks for {missing}, which no product of the message", **fields)


def test_heads_after_the_last_block_out_of_reach_of_its_features() -> None:
    """They read the features, if nothing else is said about the message."""
    published = eqf.get_preset("md17_l3_e3")
    dataclasses.replace(published, use_attn_head=True, irreps_pre_attn="8x0e+8x0o")
    with pytest.raises(ValueError, match="asks for 0o, which no product of the message .512x0e."):
        dataclasses.replace(published, use_attn_head=True)


@pytest.mark.parametrize("field", ["use_auxiliary_task", "use_denoising"])
def test_vector_heads_without_vectors(field: str) -> None:
    message = r"irreps_head='32x0e\+8x2e' has no 1e, of which the auxiliary or denoising head"
    refused(message, irreps_head="32x0e+8x2e", **{field: True})


def test_atom_edge_attributes_that_are_not_scalars() -> None:
    refused("irreps_atom_edge_attr: expected even scalars", irreps_atom_edge_attr="8x0e+1x1e")
    refused("irreps_atom_edge_attr: expected even scalars", irreps_atom_edge_attr="8x0o")


def test_force_encoding_without_irreps() -> None:
    refused("use_force_encoding needs irreps_equivariant_inputs", use_force_encoding=True)


@pytest.mark.parametrize("field", ["use_auxiliary_task", "use_denoising"])
def test_an_attention_head_beside_a_vector_head(field: str) -> None:
    refused("use_attn_head cannot be combined with", use_attn_head=True, **{field: True})


def test_two_vector_heads() -> None:
    refused(
        "choose one of use_auxiliary_task and use_denoising",
        use_auxiliary_task=True,
        use_denoising=True,
    )


# --- Graphs, seen before anything is compiled ---


def graph_refused(graph: jraph.GraphsTuple, match: str, preset: str = "md17_l2") -> None:
    """The graph is refused by everything that takes one; parameters are not even looked at."""
    model = eqf.Equiformer(eqf.get_preset(preset))
    for use in (
        lambda: model.init(jax.random.key(0), graph),
        lambda: model.apply({}, graph),
        lambda: eqf.energy_and_forces(model, {}, graph),
    ):
        with pytest.raises(ValueError, match=match):
            use()


def test_elements_outside_the_embedding() -> None:
    for number in (64, 118):
        graph = batch_of([WATER._replace(atomic_numbers=np.array([8, number, 1]))], 5.0, MOLECULES)
        graph_refused(graph, f"atom 1 has atomic number {number}, .*it knows 1 to 63")
    for number in (2, 17):
        graph = batch_of([WATER._replace(atomic_numbers=np.array([8, 1, number]))], 5.0, MOLECULES)
        message = rf"atom 2 has atomic number {number}, .*it knows \(1, 6, 7, 8, 9\)"
        graph_refused(graph, message, "qm9")


@pytest.mark.parametrize("number", [-1, 119, 10_000])
def test_numbers_that_are_no_elements(number: int) -> None:
    graph = graph_of(WATER, 5.0)
    nodes = {**graph.nodes, "atomic_numbers": np.array([8, 1, number], np.int32)}
    graph_refused(graph._replace(nodes=nodes), f"atom 2 has atomic number {number}")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_positions_that_are_not_finite(value: float) -> None:
    positions = WATER.positions.copy()
    positions[1, 2] = value
    with pytest.raises(ValueError, match="positions"):
        graph_of(WATER._replace(positions=positions), 5.0)
    graph = graph_of(WATER, 5.0)
    graph = graph._replace(nodes={**graph.nodes, "positions": positions})
    graph_refused(graph, "position of atom 1 is not finite")


@pytest.mark.parametrize("name", ["positions", "atomic_numbers", "tags"])
def test_missing_inputs(name: str) -> None:
    graph = graph_of(WATER, 5.0)
    nodes = {key: value for key, value in graph.nodes.items() if key != name}
    graph_refused(graph._replace(nodes=nodes), f"graph.nodes has no '{name}'", "oc20_is2re")


def test_tags_that_are_none() -> None:
    graph = graph_of(WATER._replace(tags=np.array([0, 3, 1])), 5.0)
    graph_refused(graph, "tag of atom 1 is 3; expected 0, 1 or 2", "oc20_is2re")


def test_edges_out_of_order() -> None:
    graph = graph_of(WATER, 5.0)
    reversed_edges = {"senders": graph.senders[::-1], "receivers": graph.receivers[::-1]}
    graph_refused(graph._replace(**reversed_edges), "sorted by receiver; edge 2 is out of order")


def test_image_offsets_without_a_cell() -> None:
    crystal = graph_of(WATER._replace(cell=4 * np.eye(3)), 5.0)
    graph_refused(crystal._replace(globals={}), "has 'shifts' but graph.globals has no 'cell'")


@pytest.mark.parametrize(
    ("budget", "message"),
    [
        ({"n_node": 3}, "n_node: 3 is too small, 3 nodes and padding need at least 4"),
        ({"n_edge": 5}, "n_edge: 5 is too small, 6 edges need at least 6"),
        ({"n_graph": 1}, "n_graph: 1 is too small, 1 graphs and padding need at least 2"),
    ],
)
def test_a_budget_that_is_too_small(budget: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        eqf.batch_graphs([graph_of(WATER, 5.0)], **budget)


def test_a_graph_without_edges() -> None:
    """A legitimate system, unless whoever reads it says otherwise."""
    far = graph_of(WATER._replace(positions=100 * WATER.positions), 5.0)
    with pytest.raises(ValueError, match=r"water.xyz, frame 7: a graph without edges: .*3 atoms"):
        require_edges(far, "water.xyz, frame 7")
    assert require_edges(graph_of(WATER, 5.0), "water.xyz") is not None


def test_arrays_without_any_edge() -> None:
    """Without padding, which every batch has, there is nothing to compute with."""
    far = graph_of(WATER._replace(positions=100 * WATER.positions), 5.0)
    graph_refused(far, "the graph has no edges: .* use batch_graphs")


# --- Under `jit`, where values cannot be seen ---


@pytest.fixture(scope="module", params=["md17_l2_linear", "qm9_dot_product", "oc20_is2re_linear"])
def predict(request: pytest.FixtureRequest) -> Predictor:
    return Predictor(small_config(request.param, num_layers=1), MOLECULES)


def with_node(graph: jraph.GraphsTuple, name: str, atom: int, value: int) -> jraph.GraphsTuple:
    values = graph.nodes[name].copy()
    values[atom] = value
    return graph._replace(nodes={**graph.nodes, name: values})


def assert_only_first_graph_is_nan(
    predict: Predictor, graph: jraph.GraphsTuple, clean: jraph.GraphsTuple
) -> None:
    """NaN where the unknown atom is; the other graph and padding have their right numbers."""
    outputs, expected = predict.evaluate(graph), predict.evaluate(clean)
    assert np.isnan(outputs["energy"][0])
    assert np.isnan(outputs["forces"][: WATER.size]).any()
    np.testing.assert_allclose(outputs["energy"][1:], expected["energy"][1:], rtol=1e-12)
    others = slice(WATER.size, None)
    np.testing.assert_allclose(outputs["forces"][others], expected["forces"][others], atol=1e-12)


def test_unknown_atoms_give_nan_under_jit(predict: Predictor) -> None:
    clean = predict.batch([WATER, WATER.mapped(1.1 * np.eye(3))])
    for number in (118, 119, 10_000, -1):
        graph = with_node(clean, "atomic_numbers", 1, number)
        assert_only_first_graph_is_nan(predict, graph, clean)


def test_unknown_tags_give_nan_under_jit(predict: Predictor) -> None:
    clean = predict.batch([WATER, WATER.mapped(1.1 * np.eye(3))])
    graph = with_node(clean, "tags", 2, 3)
    if predict.config.use_tags:
        assert_only_first_graph_is_nan(predict, graph, clean)
    else:
        assert np.isfinite(predict.evaluate(graph)["energy"]).all()


def test_positions_that_are_not_finite_give_nan_under_jit(predict: Predictor) -> None:
    clean = predict.batch([WATER, WATER.mapped(1.1 * np.eye(3))])
    positions = clean.nodes["positions"].copy()
    positions[0, 0] = np.nan
    graph = clean._replace(nodes={**clean.nodes, "positions": positions})
    assert_only_first_graph_is_nan(predict, graph, clean)

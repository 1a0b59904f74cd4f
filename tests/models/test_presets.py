"""Every published configuration: its names, its fields, its number of parameters."""

from __future__ import annotations

import dataclasses
import functools
import math

import jax
import pytest

import equiformer_jax as eqf
from equiformer_jax.models.config import EquiformerConfig
from equiformer_jax.models.presets import get_preset, list_presets

# Specification, section 10. Names that stand for one configuration share a row.
PARAMETERS = {
    3_008_515: "graph_attention_transformer_l2 qm9_linear",
    3_531_715: "graph_attention_transformer_nonlinear_l2 qm9",
    3_282_211: "graph_attention_transformer_nonlinear_l2_e3 qm9_e3",
    3_016_067: "graph_attention_transformer_l2_md17",
    3_539_267: "graph_attention_transformer_nonlinear_l2_md17",
    3_289_763: "graph_attention_transformer_nonlinear_l2_e3_md17",
    3_477_705: "graph_attention_transformer_nonlinear_bessel_l2 qm9_bessel "
    "graph_attention_transformer_nonlinear_bessel_l2_drop01 "
    "graph_attention_transformer_nonlinear_bessel_l2_drop00",
    3_352_579: "dot_product_attention_transformer_l2 qm9_dot_product",
    3_485_257: "graph_attention_transformer_nonlinear_bessel_l2_md17",
    3_496_001: "graph_attention_transformer_nonlinear_exp_l2_md17 md17_l2",
    5_500_865: "graph_attention_transformer_nonlinear_exp_l3_md17 md17_l3",
    5_602_177: "graph_attention_transformer_nonlinear_attn_exp_l3_md17",
    5_098_433: "graph_attention_transformer_nonlinear_exp_l3_e3_md17 md17_l3_e3",
    5_490_121: "graph_attention_transformer_nonlinear_bessel_l3_md17",
    5_087_689: "graph_attention_transformer_nonlinear_bessel_l3_e3_md17",
    3_316_865: "dot_product_attention_transformer_exp_l2_md17 md17_l2_dot_product",
    5_142_401: "dot_product_attention_transformer_exp_l3_md17",
    2_972_801: "md17_l2_linear",
    4_000_577: "md17_l2_dens",
    6_354_241: "md17_l3_dens",
    9_254_659: "100k/graph_attention_transformer/l1_256_aux_g@2_local.yml",
    10_182_915: "100k/graph_attention_transformer/l1_256_g@2_local.yml "
    "all/graph_attention_transformer/l1_256_g@2_local.yml "
    "all/graph_attention_transformer/l1_256_g@4_local.yml oc20_is2re_linear",
    10_130_819: "100k/graph_attention_transformer/l1_256_nonlinear_aux_g@2_local.yml "
    "100k/graph_attention_transformer/l1_256_nonlinear_aux_interpolation_g@2_local.yml "
    "all/graph_attention_transformer/l1_256_nonlinear_aux_g@2_local.yml",
    9_123_331: "100k/graph_attention_transformer/l1_256_nonlinear_g@2_local.yml "
    "all/graph_attention_transformer/l1_256_nonlinear_g@2_local.yml oc20_is2re oc20_ablation_1",
    11_362_563: "all/dp_attention_transformer/l1_256_g@2_local.yml oc20_is2re_dot_product",
    26_773_379: "all/graph_attention_transformer/l1_256_blocks@18_nonlinear_aux_g@4_local.yml "
    "oc20_is2re_is2rs",
    8_766_851: "all/graph_attention_transformer/l1_256_e3_nonlinear_g@2_local.yml oc20_is2re_e3",
    7_837_699: "oc20_ablation_2",
    8_722_435: "oc20_ablation_3",
}
COUNTS = {name: count for count, names in PARAMETERS.items() for name in names.split()}

QM9 = [name for name in COUNTS if name.startswith("qm9")]
OC20 = [name for name in COUNTS if name.startswith(("oc20", "all/", "100k/"))]
MD17 = [name for name in COUNTS if "md17" in name]


def test_the_list_is_sorted_and_complete():
    assert list_presets() == sorted(COUNTS)
    assert eqf.list_presets is list_presets and eqf.get_preset is get_preset


@functools.cache
def count_parameters(config: EquiformerConfig) -> int:
    molecule = eqf.Structure([[0.0, 0, 0], [0, 0, 1.1]], [6, 8], tags=[0, 2])
    graph = eqf.batch_graphs([eqf.build_graph(molecule, config.max_radius)])
    variables = jax.eval_shape(eqf.Equiformer(config).init, jax.random.key(0), graph)
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(variables["params"]))


@pytest.mark.parametrize("name", sorted(COUNTS))
def test_number_of_parameters(name):
    config = get_preset(name)
    # Fields without influence on the parameters, so that equal models are traced once.
    config = dataclasses.replace(
        config, alpha_drop=0.0, out_drop=0.0, drop_path_rate=0.0, max_neighbors=None
    )
    assert count_parameters(config) == COUNTS[name]


def test_what_all_presets_share():
    for name in COUNTS:
        config = get_preset(name)
        assert (config.max_radius, config.fc_neurons, config.norm_layer) == (5.0, (64, 64), "layer")
        assert not config.rescale_degree and config.proj_drop == 0
        assert not config.smooth_cutoff and config.compute_dtype is None and not config.remat
        assert config.num_heads == (8 if name in OC20 else 4)


def test_fields_of_qm9():
    for name in QM9:
        config = get_preset(name)
        assert (config.max_atom_type, config.atomic_number_map) == (5, (1, 6, 7, 8, 9))
        assert config.alpha_drop == 0.2
        basis = ("bessel", 8) if name == "qm9_bessel" else ("gaussian", 128)
        assert (config.basis_type, config.number_of_basis) == basis
    for drop in (0, 1):
        name = f"graph_attention_transformer_nonlinear_bessel_l2_drop0{drop}"
        assert get_preset(name).alpha_drop == drop / 10


def test_fields_of_md17():
    for name in MD17:
        config = get_preset(name)
        assert (config.max_atom_type, config.atomic_number_map) == (64, None)
        assert config.avg_degree == 15.57930850982666
        assert config.avg_num_nodes == 18.03065905448718
        published_default = config.basis_type == "gaussian"  # the three models ported from QM9
        assert config.alpha_drop == (0.2 if published_default else 0.0)
        assert config.use_denoising == config.use_force_encoding == name.endswith("dens")
        if name.startswith("md17"):
            assert (config.basis_type, config.number_of_basis) == ("exp", 32)
    assert get_preset("md17_l3_dens").irreps_equivariant_inputs == "1x0e+1x1e+1x2e+1x3e"
    head = get_preset("graph_attention_transformer_nonlinear_attn_exp_l3_md17")
    assert head.use_attn_head and not head.attn_head_skip_connect
    assert head.irreps_feature == head.irreps_node_embedding


def test_fields_of_oc20():
    for name in OC20:
        config = get_preset(name)
        assert config.irreps_pre_attn == config.irreps_node_embedding
        assert (config.max_atom_type, config.use_tags) == (84, True)
        assert (config.basis_type, config.number_of_basis) == ("gaussian", 128)
        assert (config.avg_degree, config.avg_num_nodes) == (23.395238876342773, 77.81317)
        assert config.max_neighbors == (100 if "l1_256_aux" in name else 500)
        assert config.use_auxiliary_task == ("_nonlinear_aux" in name or "is2rs" in name)
        assert not config.use_atom_edge_attr
        assert config.out_drop_scalars_only
    aux = "graph_attention_transformer/l1_256_nonlinear_aux_g@2_local.yml"
    drops = [
        (config.alpha_drop, config.out_drop, config.drop_path_rate)
        for config in (get_preset(f"100k/{aux}"), get_preset(f"all/{aux}"))
    ]
    assert drops == [(0.1, 0.1, 0.0), (0.2, 0.0, 0.05)]
    assert get_preset("oc20_is2re_is2rs").num_layers == 18


@pytest.mark.parametrize("name", sorted(COUNTS))
def test_attention(name):
    config = get_preset(name)
    dot_product = "dot_product" in name or "dp_" in name or name == "oc20_ablation_3"
    nonlinear = config.nonlinear_message
    assert config.attention == ("dot_product" if dot_product else "mlp")
    if "nonlinear" in name or name.endswith(("_e3", "dens")):
        assert nonlinear
    if dot_product or "linear" in name.split("_") or name == "oc20_ablation_2":
        assert not nonlinear


def test_short_names_are_official_models():
    for short, official in {
        "qm9": "graph_attention_transformer_nonlinear_l2",
        "md17_l2": "graph_attention_transformer_nonlinear_exp_l2_md17",
        "md17_l3": "graph_attention_transformer_nonlinear_exp_l3_md17",
        "oc20_is2re": "all/graph_attention_transformer/l1_256_nonlinear_g@2_local.yml",
    }.items():
        assert get_preset(short) == get_preset(official)


def test_overrides():
    config = get_preset("md17_l2", num_layers=2, fc_neurons=[32], irreps_sh="1x0e+1x1e")
    assert (config.num_layers, config.fc_neurons, config.irreps_sh) == (2, (32,), "1x0e+1x1e")
    assert get_preset("md17_l2").num_layers == 6
    assert dataclasses.replace(config, num_layers=6, fc_neurons=(64, 64)) == get_preset(
        "md17_l2", irreps_sh="1x0e+1x1e"
    )


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("md17_12", "md17_l2"),
        ("qm9_dotproduct", "qm9_dot_product"),
        ("oc20", "oc20_is2re"),
        ("graph_attention_transformer_exp_l2_md17", "transformer_nonlinear_exp_l2_md17"),
        ("zzz", "md17_l2"),
    ],
)
def test_an_unknown_preset_is_named_with_near_ones(name, near):
    with pytest.raises(ValueError, match=f"unknown preset '{name}'.*{near}"):
        get_preset(name)


def test_an_unknown_field_is_named_with_near_ones():
    with pytest.raises(ValueError, match="unknown field 'num_layer' .*num_layers"):
        get_preset("qm9", num_layer=3)
    with pytest.raises(ValueError, match="unknown field 'zzz' .*max_radius"):
        get_preset("qm9", zzz=3)


def test_a_value_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="num_layers"):
        get_preset("qm9", num_layers=0)

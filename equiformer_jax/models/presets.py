"""Every published configuration by its official name, and the project's own short names for them.

The tables are those of the specification, section 10: entry points of QM9 and MD17, configuration
files of OC20, and DeNS. A preset is a union of the parts below.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping
from typing import Any

from equiformer_jax.models.config import EquiformerConfig

Fields = dict[str, Any]

# --- Features: one parity per degree (SE(3)) or both (E(3)), up to degree 2 or 3 ---

_SE3_L2: Fields = {
    "irreps_node_embedding": "128x0e+64x1e+32x2e",
    "irreps_sh": "1x0e+1x1e+1x2e",
    "irreps_head": "32x0e+16x1e+8x2e",
    "irreps_mlp_mid": "384x0e+192x1e+96x2e",
}
_E3_L2: Fields = {
    "irreps_node_embedding": "128x0e+32x0o+32x1e+32x1o+16x2e+16x2o",
    "irreps_sh": "1x0e+1x1o+1x2e",
    "irreps_head": "32x0e+8x0o+8x1e+8x1o+4x2e+4x2o",
    "irreps_mlp_mid": "384x0e+96x0o+96x1e+96x1o+48x2e+48x2o",
}
_SE3_L3: Fields = {
    "irreps_node_embedding": "128x0e+64x1e+64x2e+32x3e",
    "irreps_sh": "1x0e+1x1e+1x2e+1x3e",
    "irreps_head": "32x0e+16x1e+16x2e+8x3e",
    "irreps_mlp_mid": "384x0e+192x1e+192x2e+96x3e",
}
_E3_L3: Fields = {
    "irreps_node_embedding": "128x0e+64x0o+32x1e+32x1o+32x2e+32x2o+16x3e+16x3o",
    "irreps_sh": "1x0e+1x1o+1x2e+1x3o",
    "irreps_head": "32x0e+16x0o+8x1e+8x1o+8x2e+8x2o+4x3e+4x3o",
    "irreps_mlp_mid": "384x0e+192x0o+96x1e+96x1o+96x2e+96x2o+48x3e+48x3o",
}
_OC20_SE3: Fields = {
    "irreps_node_embedding": "256x0e+128x1e",
    "irreps_pre_attn": "256x0e+128x1e",
    "irreps_sh": "1x0e+1x1e",
    "irreps_head": "32x0e+16x1e",
    "irreps_mlp_mid": "768x0e+384x1e",
}
_OC20_E3: Fields = {
    "irreps_node_embedding": "256x0e+64x0o+64x1e+64x1o",
    "irreps_pre_attn": "256x0e+64x0o+64x1e+64x1o",
    "irreps_sh": "1x0e+1x1o",
    "irreps_head": "32x0e+8x0o+8x1e+8x1o",
    "irreps_mlp_mid": "768x0e+192x0o+192x1e+192x1o",
}

# --- Attention and radial basis ---

_NONLINEAR: Fields = {"attention": "mlp", "nonlinear_message": True}
_LINEAR: Fields = {"attention": "mlp", "nonlinear_message": False}
_DOT_PRODUCT: Fields = {"attention": "dot_product", "nonlinear_message": False}

_GAUSSIAN: Fields = {"basis_type": "gaussian", "number_of_basis": 128}
_EXP: Fields = {"basis_type": "exp", "number_of_basis": 32}
_BESSEL: Fields = {"basis_type": "bessel", "number_of_basis": 8}

# --- Data sets: species and average sizes, and what their models have in common ---

_COMMON: Fields = {
    "irreps_feature": "512x0e",
    "num_layers": 6,
    "max_radius": 5.0,
    "fc_neurons": (64, 64),
    "norm_layer": "layer",
}
_MOLECULES: Fields = _COMMON | {
    "num_heads": 4,
    "avg_degree": 15.57930850982666,
    "avg_num_nodes": 18.03065905448718,
}
_QM9: Fields = _MOLECULES | {
    "max_atom_type": 5,
    "atomic_number_map": (1, 6, 7, 8, 9),
    "alpha_drop": 0.2,
}
_MD17: Fields = _MOLECULES | {"max_atom_type": 64, "alpha_drop": 0.0}
_OC20: Fields = _COMMON | {
    "num_heads": 8,
    "avg_degree": 23.395238876342773,
    "avg_num_nodes": 77.81317,
    "max_neighbors": 500,
    "max_atom_type": 84,
    "use_tags": True,
    "alpha_drop": 0.2,
    "out_drop_scalars_only": True,
    "attn_head_skip_connect": True,
    **_GAUSSIAN,
}

_DROP_01: Fields = {"alpha_drop": 0.1}
_DROP_00: Fields = {"alpha_drop": 0.0}
_DROP_02: Fields = {"alpha_drop": 0.2}
_ATTENTION_HEAD: Fields = {
    "irreps_feature": _SE3_L3["irreps_node_embedding"],
    "use_attn_head": True,
}
_VECTOR_FEATURE: Fields = {"irreps_feature": "512x0e+256x1e"}
_IS2RS: Fields = _VECTOR_FEATURE | {"use_auxiliary_task": True}
_DROP_PATH: Fields = {"drop_path_rate": 0.05}
_DENS: Fields = {"use_denoising": True, "use_force_encoding": True}

_ENTRY_POINTS: Mapping[str, Fields] = {
    # QM9
    "graph_attention_transformer_l2": _QM9 | _SE3_L2 | _LINEAR | _GAUSSIAN,
    "graph_attention_transformer_nonlinear_l2": _QM9 | _SE3_L2 | _NONLINEAR | _GAUSSIAN,
    "graph_attention_transformer_nonlinear_l2_e3": _QM9 | _E3_L2 | _NONLINEAR | _GAUSSIAN,
    "graph_attention_transformer_nonlinear_bessel_l2": _QM9 | _SE3_L2 | _NONLINEAR | _BESSEL,
    "graph_attention_transformer_nonlinear_bessel_l2_drop01": (
        _QM9 | _SE3_L2 | _NONLINEAR | _BESSEL | _DROP_01
    ),
    "graph_attention_transformer_nonlinear_bessel_l2_drop00": (
        _QM9 | _SE3_L2 | _NONLINEAR | _BESSEL | _DROP_00
    ),
    "dot_product_attention_transformer_l2": _QM9 | _SE3_L2 | _DOT_PRODUCT | _GAUSSIAN,
    # MD17
    "graph_attention_transformer_l2_md17": _MD17 | _SE3_L2 | _LINEAR | _GAUSSIAN | _DROP_02,
    "graph_attention_transformer_nonlinear_l2_md17": (
        _MD17 | _SE3_L2 | _NONLINEAR | _GAUSSIAN | _DROP_02
    ),
    "graph_attention_transformer_nonlinear_l2_e3_md17": (
        _MD17 | _E3_L2 | _NONLINEAR | _GAUSSIAN | _DROP_02
    ),
    "graph_attention_transformer_nonlinear_bessel_l2_md17": (
        _MD17 | _SE3_L2 | _NONLINEAR | _BESSEL
    ),
    "graph_attention_transformer_nonlinear_bessel_l3_md17": (
        _MD17 | _SE3_L3 | _NONLINEAR | _BESSEL
    ),
    "graph_attention_transformer_nonlinear_bessel_l3_e3_md17": (
        _MD17 | _E3_L3 | _NONLINEAR | _BESSEL
    ),
    "graph_attention_transformer_nonlinear_exp_l2_md17": _MD17 | _SE3_L2 | _NONLINEAR | _EXP,
    "graph_attention_transformer_nonlinear_exp_l3_md17": _MD17 | _SE3_L3 | _NONLINEAR | _EXP,
    "graph_attention_transformer_nonlinear_exp_l3_e3_md17": _MD17 | _E3_L3 | _NONLINEAR | _EXP,
    "graph_attention_transformer_nonlinear_attn_exp_l3_md17": (
        _MD17 | _SE3_L3 | _NONLINEAR | _EXP | _ATTENTION_HEAD
    ),
    "dot_product_attention_transformer_exp_l2_md17": _MD17 | _SE3_L2 | _DOT_PRODUCT | _EXP,
    "dot_product_attention_transformer_exp_l3_md17": _MD17 | _SE3_L3 | _DOT_PRODUCT | _EXP,
}

# Configuration files below `oc20/configs/is2re` of the official release.
_NONLINEAR_OC20: Fields = _OC20 | _OC20_SE3 | _NONLINEAR
_LINEAR_OC20: Fields = _OC20 | _OC20_SE3 | _LINEAR | {"num_layers": 8}
_DOT_PRODUCT_OC20: Fields = _OC20 | _OC20_SE3 | _DOT_PRODUCT | {"num_layers": 8}
_OC20_FILES: Mapping[str, Fields] = {
    # The trainer of this file weighs an auxiliary loss, but its model has no auxiliary head.
    "100k/graph_attention_transformer/l1_256_aux_g@2_local.yml": (
        _NONLINEAR_OC20 | _VECTOR_FEATURE | {"max_neighbors": 100}
    ),
    "100k/graph_attention_transformer/l1_256_g@2_local.yml": _LINEAR_OC20,
    "100k/graph_attention_transformer/l1_256_nonlinear_aux_g@2_local.yml": (
        _NONLINEAR_OC20 | _IS2RS | _DROP_01 | {"out_drop": 0.1}
    ),
    "100k/graph_attention_transformer/l1_256_nonlinear_aux_interpolation_g@2_local.yml": (
        _NONLINEAR_OC20 | _IS2RS | _DROP_PATH
    ),
    "100k/graph_attention_transformer/l1_256_nonlinear_g@2_local.yml": _NONLINEAR_OC20,
    "all/dp_attention_transformer/l1_256_g@2_local.yml": _DOT_PRODUCT_OC20,
    "all/graph_attention_transformer/l1_256_blocks@18_nonlinear_aux_g@4_local.yml": (
        _NONLINEAR_OC20 | _IS2RS | _DROP_PATH | {"num_layers": 18}
    ),
    "all/graph_attention_transformer/l1_256_e3_nonlinear_g@2_local.yml": (
        _OC20 | _OC20_E3 | _NONLINEAR
    ),
    "all/graph_attention_transformer/l1_256_g@2_local.yml": _LINEAR_OC20,
    "all/graph_attention_transformer/l1_256_g@4_local.yml": _LINEAR_OC20,
    "all/graph_attention_transformer/l1_256_nonlinear_aux_g@2_local.yml": (
        _NONLINEAR_OC20 | _IS2RS | _DROP_PATH
    ),
    "all/graph_attention_transformer/l1_256_nonlinear_g@2_local.yml": _NONLINEAR_OC20,
}

_MD17_L2_DENS: Fields = _MD17 | _SE3_L2 | _NONLINEAR | _EXP | _DENS
_MD17_L3_DENS: Fields = _MD17 | _SE3_L3 | _NONLINEAR | _EXP | _DENS
_SHORT_NAMES: Mapping[str, Fields] = {
    "qm9": _ENTRY_POINTS["graph_attention_transformer_nonlinear_l2"],
    "qm9_linear": _ENTRY_POINTS["graph_attention_transformer_l2"],
    "qm9_dot_product": _ENTRY_POINTS["dot_product_attention_transformer_l2"],
    "qm9_e3": _ENTRY_POINTS["graph_attention_transformer_nonlinear_l2_e3"],
    "qm9_bessel": _ENTRY_POINTS["graph_attention_transformer_nonlinear_bessel_l2"],
    "md17_l2": _ENTRY_POINTS["graph_attention_transformer_nonlinear_exp_l2_md17"],
    "md17_l2_linear": _MD17 | _SE3_L2 | _LINEAR | _EXP,
    "md17_l2_dot_product": _ENTRY_POINTS["dot_product_attention_transformer_exp_l2_md17"],
    "md17_l3": _ENTRY_POINTS["graph_attention_transformer_nonlinear_exp_l3_md17"],
    "md17_l3_e3": _ENTRY_POINTS["graph_attention_transformer_nonlinear_exp_l3_e3_md17"],
    "md17_l2_dens": _MD17_L2_DENS
    | {
        "irreps_feature": "512x0e+256x1e+128x2e",
        "irreps_pre_attn": _SE3_L2["irreps_node_embedding"],
        "irreps_equivariant_inputs": _SE3_L2["irreps_sh"],
    },
    "md17_l3_dens": _MD17_L3_DENS
    | {
        "irreps_feature": "512x0e+256x1e+256x2e+128x3e",
        "irreps_pre_attn": _SE3_L3["irreps_node_embedding"],
        "irreps_equivariant_inputs": _SE3_L3["irreps_sh"],
    },
    "oc20_is2re": _NONLINEAR_OC20,
    "oc20_is2re_e3": _OC20 | _OC20_E3 | _NONLINEAR,
    "oc20_is2re_linear": _LINEAR_OC20,
    "oc20_is2re_dot_product": _DOT_PRODUCT_OC20,
    "oc20_is2re_is2rs": _NONLINEAR_OC20 | _IS2RS | _DROP_PATH | {"num_layers": 18},
    # The published ablation: nonlinear messages, linear messages, dot-product attention.
    "oc20_ablation_1": _NONLINEAR_OC20,
    "oc20_ablation_2": _LINEAR_OC20 | {"num_layers": 6},
    "oc20_ablation_3": _DOT_PRODUCT_OC20 | {"num_layers": 6},
}

_PRESETS: Mapping[str, Fields] = {**_ENTRY_POINTS, **_OC20_FILES, **_SHORT_NAMES}


def list_presets() -> list[str]:
    """Returns the names that `get_preset` knows, sorted."""
    return sorted(_PRESETS)


def get_preset(name: str, **overrides: Any) -> EquiformerConfig:
    """Returns a published configuration, with some of its fields changed.

    Args:
      name: one of `list_presets()`: an official entry point such as
        `graph_attention_transformer_nonlinear_exp_l2_md17`, a configuration file of OC20 such as
        `all/graph_attention_transformer/l1_256_nonlinear_g@2_local.yml`, or a short name such as
        `md17_l2`.
      **overrides: fields of `EquiformerConfig` and their new values.

    Returns:
      The configuration (specification, section 10).

    Raises:
      ValueError: the preset or a field is unknown (the message lists near names), or a value does
        not fit.
    """
    if name not in _PRESETS:
        close = difflib.get_close_matches(name, _PRESETS, n=4) or sorted(_SHORT_NAMES)
        raise ValueError(
            f"unknown preset {name!r}; near it are {', '.join(close)} (list_presets() has them all)"
        )
    fields = [field.name for field in dataclasses.fields(EquiformerConfig)]
    for field in overrides:
        if field not in fields:
            close = difflib.get_close_matches(field, fields, n=4) or fields
            raise ValueError(
                f"unknown field {field!r} of EquiformerConfig; near it are {', '.join(close)}"
            )
    return dataclasses.replace(EquiformerConfig(**_PRESETS[name]), **overrides)

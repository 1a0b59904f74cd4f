"""Which small models the project's own fixtures cover: a name, a preset and its overrides each.

They have two layers, or three where nothing else is special, and few channels, with another
multiplicity for every irrep, so that a mix-up of layers, segments or channels cannot go unnoticed.
"""

from __future__ import annotations

import dataclasses
from typing import Any

DATASET_OF_PRESET = {
    "qm9": "qm9",
    "md17_l2": "md17",
    "md17_l2_dens": "md17_dens",
    "oc20_is2re": "oc20",
}


@dataclasses.dataclass(frozen=True)
class Case:
    """One fixture.

    Attributes:
      name: of the file, without suffix.
      preset: name of a published configuration, which sets the constants of its data set.
      fields: overrides of that configuration, complete but for what only training reads.
      periodic: whether the inputs are crystals.
      max_neighbors: how many of the nearest neighbors a receiver keeps; None for all.
    """

    name: str
    preset: str
    fields: dict[str, Any]
    periodic: bool = False
    max_neighbors: int | None = None

    @property
    def dataset(self) -> str:
        """Name of the data set that the preset belongs to."""
        return DATASET_OF_PRESET[self.preset]


COMMON = {
    "num_layers": 2,
    "num_heads": 3,
    "max_radius": 5.0,
    "number_of_basis": 8,
    "fc_neurons": (8, 7),
    "irreps_pre_attn": None,
    "attention": "mlp",
    "nonlinear_message": True,
    "rescale_degree": False,
    "norm_layer": "layer",
    "alpha_drop": 0.0,
    "proj_drop": 0.0,
    "out_drop": 0.0,
    "drop_path_rate": 0.0,
}
DEGREE_1 = {
    "irreps_node_embedding": "8x0e+4x1e",
    "irreps_sh": "1x0e+1x1e",
    "irreps_head": "3x0e+2x1e",
    "irreps_mlp_mid": "12x0e+5x1e",
    "irreps_feature": "14x0e",
}
DEGREE_2 = {
    "irreps_node_embedding": "8x0e+4x1e+2x2e",
    "irreps_sh": "1x0e+1x1e+1x2e",
    "irreps_head": "3x0e+2x1e+1x2e",
    "irreps_mlp_mid": "12x0e+5x1e+3x2e",
    "irreps_feature": "14x0e",
}
DEGREE_3 = {
    "irreps_node_embedding": "8x0e+4x1e+3x2e+2x3e",
    "irreps_sh": "1x0e+1x1e+1x2e+1x3e",
    "irreps_head": "3x0e+2x1e+1x2e+1x3e",
    "irreps_mlp_mid": "12x0e+5x1e+4x2e+3x3e",
    "irreps_feature": "14x0e",
}
BOTH_PARITIES_1 = {
    "irreps_node_embedding": "8x0e+2x0o+3x1e+4x1o",
    "irreps_sh": "1x0e+1x1o",
    "irreps_head": "3x0e+1x0o+1x1e+2x1o",
    "irreps_mlp_mid": "12x0e+3x0o+4x1e+5x1o",
    "irreps_feature": "14x0e",
}
BOTH_PARITIES_2 = {
    "irreps_node_embedding": "7x0e+2x0o+3x1e+4x1o+2x2e+1x2o",
    "irreps_sh": "1x0e+1x1o+1x2e",
    "irreps_head": "3x0e+1x0o+2x1e+1x1o+1x2e+1x2o",
    "irreps_mlp_mid": "10x0e+3x0o+4x1e+5x1o+2x2e+3x2o",
    "irreps_feature": "14x0e",
}


def _fields(*groups: dict[str, Any], **overrides: Any) -> dict[str, Any]:
    merged = dict(COMMON)
    for group in groups:
        merged |= group
    return merged | overrides


GAUSSIAN, EXPONENTIAL, BESSEL = ({"basis_type": name} for name in ("gaussian", "exp", "bessel"))
DOT_PRODUCT = {"attention": "dot_product", "nonlinear_message": False}
NO_OC20_EXTRAS = {
    "use_atom_edge_attr": False,
    "irreps_atom_edge_attr": "8x0e",
    "use_auxiliary_task": False,
    "use_attn_head": False,
}
OC20 = {**GAUSSIAN, **NO_OC20_EXTRAS, "irreps_pre_attn": "7x0e+5x1e"}

CASES = (
    Case("qm9_nonlinear", "qm9", _fields(DEGREE_2, GAUSSIAN)),
    Case("qm9_linear", "qm9", _fields(DEGREE_2, GAUSSIAN, nonlinear_message=False, num_layers=3)),
    Case("qm9_dot_product", "qm9", _fields(DEGREE_2, GAUSSIAN, DOT_PRODUCT)),
    Case(
        "qm9_dot_product_rescale_degree",
        "qm9",
        _fields(DEGREE_2, GAUSSIAN, DOT_PRODUCT, rescale_degree=True),
    ),
    Case("md17_l3_exp", "md17_l2", _fields(DEGREE_3, EXPONENTIAL)),
    Case("md17_e3_exp", "md17_l2", _fields(BOTH_PARITIES_2, EXPONENTIAL)),
    Case("md17_e3_dot_product", "md17_l2", _fields(BOTH_PARITIES_2, EXPONENTIAL, DOT_PRODUCT)),
    Case("md17_bessel", "md17_l2", _fields(DEGREE_2, BESSEL)),
    Case(
        "md17_rescale_degree",
        "md17_l2",
        _fields(DEGREE_2, EXPONENTIAL, rescale_degree=True, num_layers=3),
    ),
    Case(
        "md17_l3_attention_head",
        "md17_l2",
        _fields(
            DEGREE_3,
            EXPONENTIAL,
            use_attn_head=True,
            irreps_feature=DEGREE_3["irreps_node_embedding"],
        ),
    ),
    Case(
        "md17_norm_fast_layer", "md17_l2", _fields(DEGREE_2, EXPONENTIAL, norm_layer="fast_layer")
    ),
    Case("md17_norm_instance", "md17_l2", _fields(DEGREE_2, EXPONENTIAL, norm_layer="instance")),
    Case("md17_norm_graph", "md17_l2", _fields(DEGREE_2, EXPONENTIAL, norm_layer="graph")),
    Case(
        "md17_dens",
        "md17_l2_dens",
        _fields(
            DEGREE_2,
            EXPONENTIAL,
            irreps_pre_attn=DEGREE_2["irreps_node_embedding"],
            irreps_feature="14x0e+6x1e+3x2e",
            irreps_equivariant_inputs="1x0e+1x1e+1x2e",
            use_force_encoding=True,
        ),
    ),
    Case(
        "oc20_auxiliary",
        "oc20_is2re",
        _fields(DEGREE_1, OC20, use_auxiliary_task=True, irreps_feature="14x0e+6x1e"),
        periodic=True,
    ),
    Case(
        "oc20_e3_auxiliary",
        "oc20_is2re",
        _fields(
            BOTH_PARITIES_1,
            OC20,
            irreps_pre_attn="6x0e+2x0o+4x1e+3x1o",
            use_auxiliary_task=True,
            irreps_feature="14x0e+3x0o+4x1e+6x1o",
        ),
        periodic=True,
    ),
    Case(
        "oc20_atom_edge_attributes",
        "oc20_is2re",
        _fields(DEGREE_1, OC20, use_atom_edge_attr=True, irreps_atom_edge_attr="3x0e"),
        periodic=True,
    ),
    Case(
        "oc20_attention_head",
        "oc20_is2re",
        _fields(DEGREE_1, OC20, use_attn_head=True, irreps_feature="14x0e+6x1e"),
        periodic=True,
        max_neighbors=12,
    ),
)

"""The description of one Equiformer: every number that shapes the network, and nothing else.

Field names are the paper's and the official release's; the last group is this project's own and is
off by default, so that the default is the published model.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import e3nn_jax as e3nn

from equiformer_jax.ops.irreps import canonical_irreps, has_irrep

BASIS_TYPES = ("gaussian", "exp", "bessel")
ATTENTION_TYPES = ("mlp", "dot_product")
NORM_LAYERS = ("layer", "fast_layer", "instance", "graph")
COMPUTE_DTYPES = (None, "float32", "bfloat16", "float64")
MATMUL_PRECISIONS = (None, "default", "high", "highest")
# Fields that decide what is kept for the backward pass and what is made again; no result depends on
# them, up to round-off.
FIELDS_OF_MEMORY = frozenset({"edge_block_size", "remat"})


@dataclasses.dataclass(frozen=True)
class EquiformerConfig:
    """Hyper-parameters of an Equiformer (defaults: MD17, lmax 2; specification section 10).

    Irreps are strings such as `"128x0e+64x1e+32x2e"`: every irrep once, in ascending degree, even
    parity first.

    Attributes:
      irreps_node_embedding: node features between blocks.
      irreps_sh: spherical harmonics of the edge directions, one copy of each degree.
      irreps_feature: node features after the last block, read by the heads.
      irreps_head: features of ONE attention head.
      irreps_pre_attn: features of the message; `None` means those of the block's input.
      irreps_mlp_mid: hidden features of the feed-forward network.
      num_layers: number of transformer blocks.
      num_heads: number of attention heads.
      max_radius: cutoff in angstrom.
      max_neighbors: at most this many nearest neighbors per atom; `None` keeps all.
      number_of_basis: number of radial basis functions.
      basis_type: `gaussian`, `exp` or `bessel`.
      fc_neurons: hidden widths of the radial networks.
      attention: `mlp` (graph attention) or `dot_product`.
      nonlinear_message: gate and second tensor product in the message (`mlp` attention only).
      rescale_degree: multiply the aggregated message by the degree.
      norm_layer: `layer`, `fast_layer`, `instance` or `graph`.
      alpha_drop: dropout of attention weights.
      proj_drop: equivariant dropout after attention and feed-forward projections.
      out_drop: dropout of the features before the energy head.
      out_drop_scalars_only: let `out_drop` act on even scalars alone, as the OC20 model does.
      drop_path_rate: stochastic depth, one draw per graph and branch.
      avg_degree: average number of neighbors, a constant of the data set.
      avg_num_nodes: average number of atoms, a constant of the data set.
      max_atom_type: number of rows of the atom embedding.
      atomic_number_map: atomic numbers in the order of their rows; `None`: the atomic number is the
        row.
      use_tags: embed OC20's tags (0 sub-surface, 1 surface, 2 adsorbate).
      use_atom_edge_attr: feed embeddings of both atoms to the radial networks.
      irreps_atom_edge_attr: their scalars.
      use_attn_head: an attention instead of a feed-forward energy head.
      attn_head_skip_connect: add a linear map of the features to the attention head (OC20).
      use_auxiliary_task: predict displacements to the relaxed structure (IS2RS).
      use_denoising: predict the noise on corrupted atoms (DeNS).
      irreps_equivariant_inputs: harmonics of the force input (DeNS).
      use_force_encoding: embed the force input (DeNS).
      smooth_cutoff: let every message vanish smoothly at the cutoff (not the published model).
      compute_dtype: type of edge-sized features and matrix products; `None`: that of the
        parameters.
      matmul_precision: `jax.default_matmul_precision` inside the model.
      remat: keep nothing of a block for the backward pass but what goes in. Otherwise the results
        of its matrix products and its sums over edges are kept.
      edge_block_size: where there are more edges, work on at most so many at a time, and keep
        nothing of them for the backward pass; `None`: on all at once.
    """

    irreps_node_embedding: str = "128x0e+64x1e+32x2e"
    irreps_sh: str = "1x0e+1x1e+1x2e"
    irreps_feature: str = "512x0e"
    irreps_head: str = "32x0e+16x1e+8x2e"
    irreps_pre_attn: str | None = None
    irreps_mlp_mid: str = "384x0e+192x1e+96x2e"
    num_layers: int = 6
    num_heads: int = 4
    max_radius: float = 5.0
    max_neighbors: int | None = None
    number_of_basis: int = 128
    basis_type: str = "gaussian"
    fc_neurons: tuple[int, ...] = (64, 64)
    attention: str = "mlp"
    nonlinear_message: bool = True
    rescale_degree: bool = False
    norm_layer: str = "layer"
    alpha_drop: float = 0.0
    proj_drop: float = 0.0
    out_drop: float = 0.0
    out_drop_scalars_only: bool = False
    drop_path_rate: float = 0.0
    avg_degree: float = 15.57930850982666
    avg_num_nodes: float = 18.03065905448718
    max_atom_type: int = 64
    atomic_number_map: tuple[int, ...] | None = None
    use_tags: bool = False
    use_atom_edge_attr: bool = False
    irreps_atom_edge_attr: str = "8x0e"
    use_attn_head: bool = False
    attn_head_skip_connect: bool = False
    use_auxiliary_task: bool = False
    use_denoising: bool = False
    irreps_equivariant_inputs: str | None = None
    use_force_encoding: bool = False
    smooth_cutoff: bool = False
    compute_dtype: str | None = None
    matmul_precision: str | None = "highest"
    remat: bool = False
    edge_block_size: int | None = None

    def __post_init__(self) -> None:
        # Lists arrive from config files and JSON; a frozen dataclass that is hashed wants tuples.
        for field in ("fc_neurons", "atomic_number_map"):
            value = getattr(self, field)
            if isinstance(value, Sequence) and not isinstance(value, str):
                object.__setattr__(self, field, tuple(value))
        _check_choices(self)
        _check_numbers(self)
        _check_irreps(self)


def _check_choices(config: EquiformerConfig) -> None:
    for field, allowed in (
        ("basis_type", BASIS_TYPES),
        ("attention", ATTENTION_TYPES),
        ("norm_layer", NORM_LAYERS),
        ("compute_dtype", COMPUTE_DTYPES),
        ("matmul_precision", MATMUL_PRECISIONS),
    ):
        value = getattr(config, field)
        if value not in allowed:
            raise ValueError(f"EquiformerConfig.{field} is {value!r}; expected one of {allowed}")


def _check_numbers(config: EquiformerConfig) -> None:
    for field in ("num_layers", "num_heads", "number_of_basis", "max_atom_type"):
        _check_count(field, getattr(config, field))
    for field in ("max_neighbors", "edge_block_size"):
        if getattr(config, field) is not None:
            _check_count(field, getattr(config, field))
    if not isinstance(config.fc_neurons, tuple) or not config.fc_neurons:
        raise ValueError(
            f"EquiformerConfig.fc_neurons is {config.fc_neurons!r}; expected at least one hidden "
            "width, as in (64, 64)"
        )
    for width in config.fc_neurons:
        _check_count("fc_neurons", width)
    for field in ("max_radius", "avg_degree", "avg_num_nodes"):
        value = getattr(config, field)
        if not (_is_real(value) and 0 < value < math.inf):
            raise ValueError(f"EquiformerConfig.{field} is {value!r}; expected a positive number")
    for field in ("alpha_drop", "proj_drop", "out_drop", "drop_path_rate"):
        value = getattr(config, field)
        if not (_is_real(value) and 0 <= value < 1):
            raise ValueError(f"EquiformerConfig.{field} is {value!r}; expected 0 <= rate < 1")
    rows = config.atomic_number_map
    if rows is not None and (len(set(rows)) < len(rows) or not all(1 <= z <= 118 for z in rows)):
        raise ValueError(
            f"EquiformerConfig.atomic_number_map is {rows}; "
            "expected different atomic numbers, 1 to 118"
        )
    if rows is not None and len(rows) > config.max_atom_type:
        raise ValueError(
            f"EquiformerConfig.atomic_number_map has {len(rows)} elements, "
            f"more than max_atom_type={config.max_atom_type}"
        )


def _is_real(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _check_count(field: str, value: object) -> None:
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(f"EquiformerConfig.{field} is {value!r}; expected a whole number")
    if value < 1:
        raise ValueError(f"EquiformerConfig.{field} is {value}; expected at least 1")


def _check_irreps(config: EquiformerConfig) -> None:
    irreps = {}
    for field in (
        "irreps_node_embedding",
        "irreps_sh",
        "irreps_feature",
        "irreps_head",
        "irreps_pre_attn",
        "irreps_mlp_mid",
        "irreps_atom_edge_attr",
        "irreps_equivariant_inputs",
    ):
        value = getattr(config, field)
        if value is not None:
            irreps[field] = canonical_irreps(value, f"EquiformerConfig.{field}")

    for field in ("irreps_node_embedding", "irreps_feature", "irreps_head", "irreps_mlp_mid"):
        if not has_irrep(irreps[field], "0e"):
            raise ValueError(
                f"EquiformerConfig.{field}={getattr(config, field)!r} has no 0e: "
                "attention scores, gates and energies are made of even scalars"
            )
    sh = irreps["irreps_sh"]
    for field in ("irreps_sh", "irreps_equivariant_inputs"):
        if field in irreps:
            _check_harmonics(irreps[field], field)
    for _, ir in irreps.get("irreps_equivariant_inputs", ()):
        if not has_irrep(sh, str(ir)):
            raise ValueError(
                "EquiformerConfig.irreps_equivariant_inputs="
                f"{config.irreps_equivariant_inputs!r} has {ir}, which "
                f"irreps_sh={config.irreps_sh!r} has not"
            )
    _check_heads(config, irreps)
    if any(ir.l or ir.p != 1 for _, ir in irreps["irreps_atom_edge_attr"]):
        raise ValueError(
            "EquiformerConfig.irreps_atom_edge_attr: expected even scalars only, such as '8x0e'"
        )
    if config.use_force_encoding and config.irreps_equivariant_inputs is None:
        raise ValueError("EquiformerConfig.use_force_encoding needs irreps_equivariant_inputs")
    if config.use_attn_head and (config.use_auxiliary_task or config.use_denoising):
        raise ValueError(
            "EquiformerConfig.use_attn_head cannot be combined with use_auxiliary_task or "
            "use_denoising (nor could it in the official model)"
        )
    if config.use_auxiliary_task and config.use_denoising:
        raise ValueError("EquiformerConfig: choose one of use_auxiliary_task and use_denoising")


def _check_harmonics(irreps: e3nn.Irreps, field: str) -> None:
    """One copy of each degree from 0 up, all even (SE(3)) or with alternating parity (E(3))."""
    found = [(mul, ir.l, ir.p) for mul, ir in irreps]
    even = [(1, degree, 1) for degree in range(len(found))]
    alternating = [(1, degree, (-1) ** degree) for degree in range(len(found))]
    if found not in (even, alternating):
        raise ValueError(
            f"EquiformerConfig.{field}={str(irreps)!r}: expected one copy of each degree from 0 "
            "up, as in '1x0e+1x1e+1x2e' or '1x0e+1x1o+1x2e'"
        )


def _check_heads(config: EquiformerConfig, irreps: dict[str, e3nn.Irreps]) -> None:
    """Everything that a head of an attention holds must come out of its tensor product."""
    messages = [irreps.get("irreps_pre_attn", irreps["irreps_node_embedding"])]
    has_vector_head = config.use_auxiliary_task or config.use_denoising
    if (has_vector_head or config.use_attn_head) and config.irreps_pre_attn is None:
        messages.append(irreps["irreps_feature"])  # attentions after the last block
    for message in messages:
        reachable = {str(ir) for _, a in message for _, b in irreps["irreps_sh"] for ir in a * b}
        for _, ir in irreps["irreps_head"]:
            if str(ir) not in reachable:
                raise ValueError(
                    f"EquiformerConfig.irreps_head={config.irreps_head!r} asks for {ir}, which no "
                    f"product of the message ({message}) with irreps_sh={config.irreps_sh!r} "
                    "contains"
                )
    vector = "1o" if has_irrep(irreps["irreps_feature"], "1o") else "1e"
    if has_vector_head and not has_irrep(irreps["irreps_head"], vector):
        raise ValueError(
            f"EquiformerConfig.irreps_head={config.irreps_head!r} has no {vector}, of which the "
            "auxiliary or denoising head makes its vectors"
        )

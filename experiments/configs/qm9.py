r"""QM9: twelve properties of small molecules, one model each (SPEC §12.2).

    python -m experiments.train --config=experiments/configs/qm9.py:alpha --workdir=DIR

Options after the colon: the target; `variant`, which is `nonlinear` as published, or, for the
targets of the published ablation (mu, alpha, homo, lumo, gap and cv), `linear` or `dot_product`.
110,000 molecules train, 10,000 validate, 10,831 test.
"""

from __future__ import annotations

from typing import NamedTuple

from ml_collections import config_dict

from experiments.configs import parts


class Recipe(NamedTuple):
    """How one target is trained."""

    preset: str
    learning_rate: float
    weight_decay: float
    batch_size: int
    num_epochs: int
    standardize: bool
    unit: str  # of the metric
    scale: float  # from the label's unit to the metric's


_GAUSSIAN = Recipe("qm9", 5e-4, 5e-3, 128, 300, True, "", 1.0)
_MEV = _GAUSSIAN._replace(unit="mev", scale=1000.0)
_BESSEL = "graph_attention_transformer_nonlinear_bessel_l2"
_TOTAL = Recipe(f"{_BESSEL}_drop00", 1.5e-4, 0.0, 64, 600, False, "mev", 1000.0)

RECIPES = {
    "mu": _GAUSSIAN._replace(unit="debye"),
    "alpha": _GAUSSIAN._replace(unit="bohr3"),
    "homo": _MEV,
    "lumo": _MEV,
    "gap": _MEV,
    "r2": _GAUSSIAN._replace(preset=f"{_BESSEL}_drop01", unit="bohr2"),
    "zpve": _MEV._replace(preset=_BESSEL),
    "u0": _TOTAL,
    "u298": _TOTAL,
    "h298": _TOTAL,
    "g298": _TOTAL,
    "cv": _GAUSSIAN._replace(unit="cal_per_mol_kelvin"),
}
VARIANTS = {"linear": "qm9_linear", "dot_product": "qm9_dot_product"}
# The recipes of the other targets have another radial basis, and some no standardization.
ABLATION_TARGETS = ("mu", "alpha", "homo", "lumo", "gap", "cv")


def get_config(argument: str | None = None) -> config_dict.ConfigDict:
    """The recipe of a target; the module's text lists the options."""
    options = parts.parse_argument(argument, "target", target="alpha", variant="nonlinear")
    target = options["target"]
    recipe = parts.choose("target", target, RECIPES)
    return parts.experiment(
        seed=0,
        model=parts.model(
            _preset(target, options["variant"]), edge_block_size=parts.EDGES_IN_CACHE
        ),
        data=parts.data(
            "qm9", target=target, file=None, directory=None, download=True, scaled_split=False
        ),
        normalizer=parts.normalizer() if recipe.standardize else parts.normalizer(0.0, 1.0),
        objective=config_dict.ConfigDict(
            {
                "kind": "scalar_target",
                "metric_name": f"{target}_mae_{recipe.unit}",
                "metric_scale": recipe.scale,
            }
        ),
        optimizer=parts.adamw(recipe.learning_rate, recipe.weight_decay),
        schedule=parts.cosine_epochs(warmup_epochs=5),
        training=parts.training(
            recipe.num_epochs,
            recipe.batch_size,
            128,
            test_every_epochs=1,
            report="best",
            log_every_steps=100,
        ),
    )


def _preset(target: str, variant: str) -> str:
    if variant == "nonlinear":
        return RECIPES[target].preset
    if variant not in VARIANTS or target not in ABLATION_TARGETS:
        raise ValueError(
            f"variant={variant!r} of target={target!r}; expected nonlinear or, for "
            f"{', '.join(ABLATION_TARGETS)}, linear or dot_product"
        )
    return VARIANTS[variant]

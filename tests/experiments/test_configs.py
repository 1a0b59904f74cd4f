"""Every configuration can be built, and one training step of a small version of each kind taken."""

from __future__ import annotations

import dataclasses
import sys
import typing

import absl.flags
import e3nn_jax as e3nn
import jax
import numpy as np
import pytest
from ml_collections import config_flags

from equiformer_jax.data import catalog
from equiformer_jax.data.readers.rmd17 import RMD17_MOLECULES
from equiformer_jax.models.config import EquiformerConfig
from equiformer_jax.models.presets import get_preset
from equiformer_jax.nn.edge_blocks import count_blocks
from equiformer_jax.structure import Structure
from equiformer_jax.training import recipe
from equiformer_jax.training.configuration import model_from_settings
from equiformer_jax.training.early_checks import check_configuration
from equiformer_jax.training.run import Run
from experiments.configs import extxyz, md17, md22, oc20_is2re, parts, qm9, quickstart, rmd17

ARGUMENTS = {
    quickstart: [None],
    md17: [
        f"{molecule}{options}"
        for molecule in md17.RECIPES
        for options in ("", ",lmax=3", ",dens", ",lmax=3,dens", ",variant=linear")
    ]
    + ["aspirin,variant=dot_product"],
    rmd17: [f"{molecule},split={k}" for k, molecule in enumerate(RMD17_MOLECULES, start=1)],
    md22: [f"{system},lmax={lmax}" for system in md22.RECIPES for lmax in (2, 3)],
    qm9: [*qm9.RECIPES]
    + [f"{target},variant={v}" for target in qm9.ABLATION_TARGETS for v in qm9.VARIANTS],
    oc20_is2re: [*oc20_is2re.RECIPES, "nonlinear,subset=100k"],
    extxyz: ["train.xyz", "train.xyz,test=test.xyz,order=blocks,preset=md17_l3"],
}
CASES = [(module, argument) for module, arguments in ARGUMENTS.items() for argument in arguments]
# Targets whose recipe differs from that of the ablation (SPEC §12.2).
NO_ABLATION = ("r2", "zpve", "u0", "u298", "h298", "g298")
LENGTH = recipe.RunLength(num_epochs=30, steps_per_epoch=10)
# Fields for real numbers, beside those of the model, the objective and the augmentation, whose
# classes say which they are.
REAL_FIELDS = {
    "optimizer": ("learning_rate", "weight_decay", "clip_norm", "ema_decay"),
    "normalizer": ("mean", "std"),
    "data": ("headroom",),
}
REAL_SCHEDULE_FIELDS = {
    "cosine_epochs": ("warmup_lr", "min_lr"),
    "cosine_steps": ("warmup_epochs", "warmup_factor", "min_factor"),
}


def build(module, argument):
    return module.get_config() if argument is None else module.get_config(argument)


each_configuration = pytest.mark.parametrize(
    ("module", "argument"),
    CASES,
    ids=lambda value: getattr(value, "__name__", str(value)).rpartition(".")[2],
)


@each_configuration
def test_every_part_of_every_configuration_is_understood(module, argument):
    config = build(module, argument)
    model_from_settings(config.model)
    augmentation = recipe.build_augmentation(config.get("augmentation"))
    recipe.build_objective(config.objective, 2.0, LENGTH, augmentation)
    schedule = recipe.build_schedule(config.schedule, config.optimizer.learning_rate, LENGTH)
    recipe.build_optimizer(config.optimizer, schedule)
    assert recipe.build_average(config.optimizer) is None
    catalog._check_options(config.data.name, dict(config.data.options.items()))


def real_fields(part, kind):
    """Which fields of a part, an object of the class `kind`, are declared as real numbers."""
    hints = typing.get_type_hints(kind)
    return [name for name in part if hints.get(name) in (float, float | None)]


@each_configuration
def test_fields_for_real_numbers_can_be_overridden_by_fractions(module, argument):
    config = build(module, argument)
    fields = REAL_FIELDS | {
        "model": real_fields(config.model, EquiformerConfig),
        "objective": real_fields(config.objective, recipe.OBJECTIVES[config.objective.kind]),
        "schedule": REAL_SCHEDULE_FIELDS[config.schedule.kind],
    }
    if "augmentation" in config:
        kind = recipe.AUGMENTATIONS[config.augmentation.kind]
        fields["augmentation"] = real_fields(config.augmentation, kind)
    integers = [
        f"config.{part}.{name}"
        for part, names in fields.items()
        for name in names
        if config[part].get_type(name) is not float
    ]
    assert not integers
    assert len(fields["model"]) > 5


@pytest.mark.parametrize(
    ("config", "edges"),  # of one molecule, rounded up
    [
        (md17.get_config("aspirin"), 310),
        (md17.get_config("aspirin,lmax=3"), 310),
        (md17.get_config("aspirin,dens"), 310),
        (rmd17.get_config("azobenzene"), 410),
    ],
)
def test_edges_of_more_molecules_than_are_published_in_a_batch_are_divided(config, edges):
    assert count_blocks(config.training.batch_size * edges, config.model.edge_block_size) == 1
    assert count_blocks(32 * edges, config.model.edge_block_size) > 2


def test_large_molecules_are_not_divided_unless_asked_for():
    assert md22.get_config("AT-AT").model.edge_block_size is None


@pytest.mark.parametrize("options", ["", ",dens"])
def test_a_flag_can_set_a_fractional_weight(monkeypatch, options):
    command = ["train", "--config.objective.force_weight=27.5"]
    monkeypatch.setattr(sys, "argv", command)  # where ml_collections looks for overrides
    flags = absl.flags.FlagValues()
    config = md17.get_config(f"aspirin{options}")
    config_flags.DEFINE_config_dict("config", config, flag_values=flags)
    flags(command)
    assert flags.config.objective.force_weight == 27.5


@pytest.mark.parametrize(
    ("module", "argument", "message"),
    [
        (md17, "water", "molecule='water'; known are"),
        (md17, "aspirin,lmax=4", r"lmax=4; known are \[2, 3\]"),
        (md17, "aspirin,lmax=x", "lmax='x'; expected int"),
        (md17, "aspirin,epochs=3", "unknown option 'epochs'"),
        (md17, "aspirin,dens=perhaps", "expected true or false"),
        (md17, "aspirin,lmax=3,variant=linear", "variant='linear'"),
        (qm9, "beta", "target='beta'"),
        (qm9, "alpha,variant=quadratic", "variant='quadratic' of target='alpha'; expected nonlin"),
        (qm9, "u0,variant=linear", "'linear' of target='u0'; .* mu, alpha, homo, lumo, gap, cv,"),
        *((qm9, f"{target},variant=dot_product", f"target='{target}'") for target in NO_ABLATION),
        (md22, "DNA", "system='DNA'"),
        (rmd17, "water", "molecule='water'"),
        (oc20_is2re, "quadratic", "recipe='quadratic'"),
    ],
)
def test_a_mistyped_argument_is_named(module, argument, message):
    with pytest.raises(ValueError, match=message):
        module.get_config(argument)


def test_arguments_of_every_type():
    defaults = {"name": "a", "count": 2, "flag": False}
    assert parts.parse_argument(None, "name", **defaults) == defaults
    assert parts.parse_argument("b,flag,count=5", "name", **defaults) == {
        "name": "b",
        "count": 5,
        "flag": True,
    }
    assert parts.parse_argument("flag=false", "name", **defaults)["flag"] is False


def test_a_recipe_of_a_subset_trains_on_it_unless_told():
    def subset(argument):
        return oc20_is2re.get_config(argument).data.options.subset

    assert subset("aux") == subset("blocks18") == subset("nonlinear") == "all"
    assert subset("aux_100k") == subset("aux_interpolation") == "100k"
    assert subset("aux_interpolation,subset=all") == "all"


def test_fields_that_are_not_given_do_not_share_a_value():
    config = qm9.get_config("alpha")
    config.normalizer.std = 2.0
    assert config.normalizer.mean is None


# ---- One step of each kind

SE3 = {
    "irreps_node_embedding": "4x0e+2x1e",
    "irreps_sh": "1x0e+1x1e",
    "irreps_head": "2x0e+1x1e",
    "irreps_mlp_mid": "4x0e+2x1e",
}
SE3_L2 = {field: f"{irreps}+1x2e" for field, irreps in SE3.items()}
E3 = {
    "irreps_node_embedding": "4x0e+2x0o+2x1e+2x1o",
    "irreps_sh": "1x0e+1x1o",
    "irreps_head": "2x0e+1x0o+1x1e+1x1o",
    "irreps_mlp_mid": "4x0e+2x0o+2x1e+2x1o",
}
# Every configuration whose training step is a program of its own: the others of a file differ from
# these in numbers alone, and rMD17 from MD17 in its data.
STEPPED = [
    (quickstart, None),
    (md17, "aspirin"),
    (md17, "aspirin,lmax=3"),
    (md17, "benzene,variant=linear"),
    (md17, "uracil,variant=dot_product"),
    (md17, "toluene,dens"),
    (md22, "AT-AT"),
    (extxyz, "train.xyz"),
    (qm9, "alpha"),
    (qm9, "r2"),
    (qm9, "u0"),
    (qm9, "mu,variant=linear"),
    (qm9, "gap,variant=dot_product"),
    (oc20_is2re, "nonlinear"),
    (oc20_is2re, "linear"),
    (oc20_is2re, "dot_product"),
    (oc20_is2re, "e3"),
    (oc20_is2re, "aux_100k"),
    (oc20_is2re, "blocks18"),
]
# The one that is stepped with degree 2 and with blocks enough for the scan over them to repeat.
DEEP = (md17, "toluene,dens")


def small(config, deep=False):
    """The same recipe with a network of a few channels, on made-up data.

    With `deep`, it has three blocks, two of them in the scan, and degree 2.
    """
    both_parities = "o" in config.model.irreps_node_embedding
    fields = dict(E3 if both_parities else SE3_L2 if deep else SE3)
    has_vectors = "1e" in config.model.irreps_feature or "1o" in config.model.irreps_feature
    fields["irreps_feature"] = "6x0e" + "+3x1e" * has_vectors + "+2x2e" * (has_vectors and deep)
    if config.model.irreps_pre_attn is not None:
        fields["irreps_pre_attn"] = fields["irreps_node_embedding"]
    if config.model.use_force_encoding:
        fields["irreps_equivariant_inputs"] = fields["irreps_sh"]
    fields |= {
        "num_layers": 3 if deep else 1,
        "num_heads": 2,
        "number_of_basis": 4,
        "fc_neurons": (4,),
    }
    config.model.update(fields)
    config.data.name = "made_up"
    config.data.options = {}
    config.training.num_epochs = max(2, config.schedule.warmup_epochs)
    config.training.batch_size = 4
    config.training.evaluation_batch_size = 4
    return config


def slab(generator):
    """Five atoms on a small cell, with every label that a recipe asks for."""
    positions = np.array([[0, 0, 0], [2.5, 0, 0], [0, 2.5, 0], [2.5, 2.5, 0.3], [1.2, 1.2, 1.8]])
    positions = positions + 0.1 * generator.normal(size=(5, 3))
    return Structure(
        positions,
        [6, 7, 8, 1, 1],
        cell=np.diag([5.0, 5.0, 15.0]),
        pbc=(True, True, False),
        energy=float(generator.normal()),
        forces=generator.normal(size=(5, 3)),
        tags=[0, 0, 1, 1, 2],
        relaxed_positions=positions + 0.1 * generator.normal(size=(5, 3)),
        fixed=[1, 1, 0, 0, 0],
    )


@pytest.fixture
def made_up_data(monkeypatch):
    generator = np.random.default_rng(0)
    structures = [slab(generator) for _ in range(4)]
    splits = {"train": structures, "validation": structures[:2], "test": structures[:2]}
    monkeypatch.setitem(catalog.DATASETS, "made_up", lambda: splits)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "argument"), STEPPED, ids=lambda v: str(v).partition("'")[2] or v
)
def test_a_small_version_takes_a_training_step(made_up_data, module, argument):
    config = small(build(module, argument), deep=(module, argument) == DEEP)
    check_configuration(config)
    run = Run(config, say=lambda line: None, splits=("train", "validation"))
    state = run.state_of(run.initial_params())
    before = jax.device_get(state.params)
    with run.data.training_batches.epoch(0) as batches:
        state, means = run.train_step(state, run.place(next(batches)))
    assert np.isfinite(means["loss"].value)
    assert means["gradient_norm"].value > 0
    changed = jax.tree.map(lambda a, b: bool(np.any(a != b)), before, state.params)
    assert any(jax.tree.leaves(changed))


def test_small_versions_keep_the_kind_of_their_model():
    config = small(oc20_is2re.get_config("blocks18"))
    model = model_from_settings(config.model)
    published = dataclasses.asdict(get_preset("oc20_is2re_is2rs"))
    for field in ("attention", "nonlinear_message", "use_tags", "use_auxiliary_task", "max_radius"):
        assert getattr(model, field) == published[field]


def test_one_small_version_has_a_scan_that_repeats_and_degree_2():
    assert DEEP in STEPPED
    module, argument = DEEP
    model = model_from_settings(small(build(module, argument), deep=True).model)
    assert model.num_layers == 3
    published = get_preset("md17_l2_dens")
    for field in ("irreps_node_embedding", "irreps_sh", "irreps_head", "irreps_feature"):
        degrees = e3nn.Irreps(getattr(model, field)).ls
        assert set(degrees) == set(e3nn.Irreps(getattr(published, field)).ls)
    assert model.irreps_equivariant_inputs == published.irreps_equivariant_inputs

"""The configurations of QM9 and MD17 are the published trainings, number for number.

The tables are those of the specification, each typed in once, here:

* QM9: SPEC §12.2, with §12.1 for what QM9 and MD17 share and §10 for the models;
* MD17 and DeNS: SPEC §12.3, with §12.1, §9 for the denoising and §10 for the models.

The learning rates of whole runs, too, step for step.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest

from equiformer_jax.data.units import EV_PER_KCAL_MOL
from equiformer_jax.training import recipe
from equiformer_jax.training.configuration import to_plain
from experiments.configs import md17, qm9
from tests.experiments.recipe_checks import assert_fields, assert_rates, published_epoch_rates


def assert_shared_part(config, seed, warmup_epochs):
    """SPEC §12.1; the radius of all models is that of §10."""
    assert config.seed == seed
    assert_fields(config.optimizer, clip_norm=None, ema_decay=None, freeze=())
    assert_fields(
        config.schedule,
        kind="cosine_epochs",
        warmup_epochs=warmup_epochs,
        warmup_lr=1e-6,
        min_lr=1e-6,
    )
    assert_fields(
        config.model, num_layers=6, max_radius=5.0, fc_neurons=(64, 64), norm_layer="layer"
    )
    assert_fields(config.model, num_heads=4, proj_drop=0.0, out_drop=0.0, drop_path_rate=0.0)
    assert_fields(config.model, rescale_degree=False, use_atom_edge_attr=False)


# ---- QM9, SPEC §12.2


class Target(NamedTuple):
    basis: str
    number_of_basis: int
    alpha_drop: float
    learning_rate: float
    weight_decay: float
    batch_size: int  # over all devices
    num_epochs: int
    standardize: bool
    unit: str
    scale: float  # from the unit of the labels to that of the metric


QM9 = {
    "mu": Target("gaussian", 128, 0.2, 5e-4, 5e-3, 128, 300, True, "debye", 1.0),
    "alpha": Target("gaussian", 128, 0.2, 5e-4, 5e-3, 128, 300, True, "bohr3", 1.0),
    "homo": Target("gaussian", 128, 0.2, 5e-4, 5e-3, 128, 300, True, "mev", 1000.0),
    "lumo": Target("gaussian", 128, 0.2, 5e-4, 5e-3, 128, 300, True, "mev", 1000.0),
    "gap": Target("gaussian", 128, 0.2, 5e-4, 5e-3, 128, 300, True, "mev", 1000.0),
    "r2": Target("bessel", 8, 0.1, 5e-4, 5e-3, 128, 300, True, "bohr2", 1.0),
    "zpve": Target("bessel", 8, 0.2, 5e-4, 5e-3, 128, 300, True, "mev", 1000.0),
    "u0": Target("bessel", 8, 0.0, 1.5e-4, 0.0, 2 * 32, 600, False, "mev", 1000.0),
    "u298": Target("bessel", 8, 0.0, 1.5e-4, 0.0, 2 * 32, 600, False, "mev", 1000.0),
    "h298": Target("bessel", 8, 0.0, 1.5e-4, 0.0, 2 * 32, 600, False, "mev", 1000.0),
    "g298": Target("bessel", 8, 0.0, 1.5e-4, 0.0, 2 * 32, 600, False, "mev", 1000.0),
    "cv": Target("gaussian", 128, 0.2, 5e-4, 5e-3, 128, 300, True, "cal_per_mol_kelvin", 1.0),
}
QM9_ABLATION = ("mu", "alpha", "homo", "lumo", "gap", "cv")
QM9_NUM_TRAIN = 110_000


def test_there_is_a_recipe_for_each_target_in_the_published_order():
    assert list(qm9.RECIPES) == list(QM9)
    assert qm9.ABLATION_TARGETS == QM9_ABLATION


@pytest.mark.parametrize("target", QM9)
def test_qm9_recipe(target):
    config, row = qm9.get_config(target), QM9[target]
    assert_shared_part(config, seed=0, warmup_epochs=5)
    assert_fields(
        config.model,
        irreps_node_embedding="128x0e+64x1e+32x2e",
        irreps_feature="512x0e",
        attention="mlp",
        nonlinear_message=True,
        basis_type=row.basis,
        number_of_basis=row.number_of_basis,
        alpha_drop=row.alpha_drop,
    )
    assert_fields(config.optimizer, learning_rate=row.learning_rate, weight_decay=row.weight_decay)
    assert_fields(config.training, batch_size=row.batch_size, num_epochs=row.num_epochs)
    # The test error of the epoch that is best on the validation split; both are measured each time.
    assert_fields(config.training, test_every_epochs=1, test_batches=None, report="best")
    assert_fields(config.training, validate_every_steps=0, accumulate=1, ensemble=1)
    # None: of the training labels.
    number = (None, None) if row.standardize else (0.0, 1.0)
    assert (config.normalizer.mean, config.normalizer.std) == number
    assert not config.normalizer.reference_energies
    assert to_plain(config.objective) == {
        "kind": "scalar_target",
        "metric_name": f"{target}_mae_{row.unit}",
        "metric_scale": row.scale,
    }
    assert_fields(config.data, name="qm9", balance_window=1)
    assert_fields(config.data.options, target=target, scaled_split=False)
    assert "augmentation" not in config


@pytest.mark.parametrize("target", QM9)
def test_qm9_learning_rate(target):
    row = QM9[target]
    steps = QM9_NUM_TRAIN // row.batch_size
    expected = published_epoch_rates(row.learning_rate, 5, row.num_epochs, steps)
    assert_rates(qm9.get_config(target), QM9_NUM_TRAIN, expected)


@pytest.mark.parametrize("target", QM9_ABLATION)
def test_qm9_ablation_changes_the_messages_alone(target):
    published = to_plain(qm9.get_config(target))
    linear = to_plain(qm9.get_config(f"{target},variant=linear"))
    assert linear["model"].pop("nonlinear_message") is False
    dot_product = to_plain(qm9.get_config(f"{target},variant=dot_product"))
    assert dot_product["model"].pop("attention") == "dot_product"
    dot_product["model"].pop("nonlinear_message")
    assert published["model"].pop("nonlinear_message") is True
    assert linear == published
    assert published["model"].pop("attention") == "mlp"
    assert dot_product == published


# ---- MD17 and DeNS, SPEC §12.3

# Learning rate, weight of the energy, weight of the forces: lmax 2, lmax 3, DeNS 2, DeNS 3.
MD17 = {
    "aspirin": ((5e-4, 1, 80), (2e-4, 1, 100), (5e-4, 1, 80), (2e-4, 1, 80)),
    "benzene": ((1e-4, 1, 80), (1e-4, 1, 80), (1e-4, 1, 80), (1e-4, 1, 80)),
    "ethanol": ((5e-4, 1, 80), (2e-4, 1, 80), (5e-4, 1, 80), (2e-4, 1, 80)),
    "malonaldehyde": ((5e-4, 1, 100), (2e-4, 1, 100), (5e-4, 1, 100), (2e-4, 1, 100)),
    "naphthalene": ((5e-4, 1, 20), (2e-4, 1, 100), (5e-4, 2, 20), (2e-4, 2, 20)),
    "salicylic_acid": ((5e-4, 1, 80), (2e-4, 1, 100), (5e-4, 1, 80), (2e-4, 1, 80)),
    "toluene": ((5e-4, 1, 80), (2e-4, 1, 100), (5e-4, 1, 80), (2e-4, 1, 80)),
    "uracil": ((5e-4, 1, 20), (2e-4, 1, 100), (5e-4, 1, 20), (2e-4, 1, 20)),
}
# Epochs and batch size; those of DeNS are the same but for benzene.
MD17_LENGTHS = {2: (1500, 8), 3: (2000, 5)}
MD17_DENS_LENGTHS = {("benzene", 3): (1500, 8)}
MD17_EVALUATION_BATCH_SIZES = {2: 24, 3: 16}
MD17_NUM_TRAIN = 950

MD17_IRREPS = {2: "128x0e+64x1e+32x2e", 3: "128x0e+64x1e+64x2e+32x3e"}
MD17_FEATURES = {2: "512x0e", 3: "512x0e"}
MD17_DENS_FEATURES = {2: "512x0e+256x1e+128x2e", 3: "512x0e+256x1e+256x2e+128x3e"}
MD17_DENS_INPUTS = {2: "1x0e+1x1e+1x2e", 3: "1x0e+1x1e+1x2e+1x3e"}
# Probability of a structure, standard deviation in Å.
DENS_NOISE = {"toluene": (0.125, 0.025)}
DENS_NOISE_OF_THE_OTHERS = (0.25, 0.05)


def md17_row(molecule, lmax, dens):
    """Learning rate, weights of energy and forces, epochs and batch size."""
    length = MD17_LENGTHS[lmax]
    if dens:
        length = MD17_DENS_LENGTHS.get((molecule, lmax), length)
    return (*MD17[molecule][2 * dens + lmax - 2], *length)


def md17_config(molecule, lmax, dens):
    return md17.get_config(f"{molecule},lmax={lmax},dens={dens}")


each_md17_recipe = pytest.mark.parametrize(
    ("molecule", "lmax", "dens"),
    [(molecule, lmax, dens) for molecule in MD17 for lmax in (2, 3) for dens in (False, True)],
)


def test_there_is_a_recipe_for_each_molecule():
    assert set(md17.RECIPES) == set(MD17)


@each_md17_recipe
def test_md17_recipe(molecule, lmax, dens):
    config = md17_config(molecule, lmax, dens)
    learning_rate, _, _, num_epochs, batch_size = md17_row(molecule, lmax, dens)
    assert_shared_part(config, seed=1, warmup_epochs=10)
    assert_fields(
        config.model,
        irreps_node_embedding=MD17_IRREPS[lmax],
        irreps_feature=(MD17_DENS_FEATURES if dens else MD17_FEATURES)[lmax],
        irreps_pre_attn=MD17_IRREPS[lmax] if dens else None,
        irreps_equivariant_inputs=MD17_DENS_INPUTS[lmax] if dens else None,
        use_denoising=dens,
        use_force_encoding=dens,
        attention="mlp",
        nonlinear_message=True,
        basis_type="exp",
        number_of_basis=32,
        alpha_drop=0.0,
    )
    assert_fields(config.optimizer, learning_rate=learning_rate, weight_decay=1e-6)
    assert_fields(config.training, num_epochs=num_epochs, batch_size=batch_size)
    # Validation after each epoch, the whole test split at the end with the last weights.
    assert_fields(config.training, validate_every_steps=0, report="last", accumulate=1, ensemble=1)
    assert_fields(
        config.training,
        test_every_epochs=20 if dens else 10,
        test_batches=500 if dens else 1000,
    )
    if not dens:  # SPEC has it for these alone
        assert config.training.evaluation_batch_size == MD17_EVALUATION_BATCH_SIZES[lmax]
    # Mean and deviation of the training energies.
    assert_fields(config.normalizer, mean=None, std=None, reference_energies=False)
    assert_fields(config.data, name="md17", balance_window=1)
    assert_fields(config.data.options, molecule=molecule, order="published")


@each_md17_recipe
def test_md17_loss(molecule, lmax, dens):
    config = md17_config(molecule, lmax, dens)
    _, energy_weight, force_weight, num_epochs, _ = md17_row(molecule, lmax, dens)
    weights = {"energy_weight": energy_weight, "force_weight": force_weight}
    if dens:
        kind = {"kind": "denoising", "denoising_weight": 5.0}
    else:
        # The norm of one number, the energy, is its absolute value; of forces it is over xyz.
        kind = {"kind": "energy_forces", "energy_error": "l1", "force_error": "l2"}
        assert config.objective.stress_weight == 0
    assert_fields(config.objective, **weights, **kind)

    augmentation = recipe.build_augmentation(config.get("augmentation"))
    length = recipe.RunLength(config.training.num_epochs, steps_per_epoch=100)
    objective = recipe.build_objective(config.objective, 2.0, length, augmentation)
    assert list(objective.selection.values()) == [energy_weight, force_weight]
    if dens:
        step = np.arange(0, 100 * num_epochs, 50)
        expected = 5.0 * (1 - step // 100 / num_epochs)
        np.testing.assert_allclose(objective.weights_at(step)["denoising"], expected, rtol=1e-12)


@each_md17_recipe
def test_md17_noise(molecule, lmax, dens):
    config = md17_config(molecule, lmax, dens)
    if not dens:
        assert "augmentation" not in config
        return
    probability, std = DENS_NOISE.get(molecule, DENS_NOISE_OF_THE_OTHERS)
    assert to_plain(config.augmentation) == {
        "kind": "denoising",
        "probability": probability,
        "atom_share": 0.25,
        "std": std,
        "force_unit": EV_PER_KCAL_MOL,
    }


@each_md17_recipe
def test_md17_learning_rate(molecule, lmax, dens):
    learning_rate, _, _, num_epochs, batch_size = md17_row(molecule, lmax, dens)
    expected = published_epoch_rates(learning_rate, 10, num_epochs, MD17_NUM_TRAIN // batch_size)
    assert_rates(md17_config(molecule, lmax, dens), MD17_NUM_TRAIN, expected)


@pytest.mark.parametrize("molecule", MD17)
@pytest.mark.parametrize("variant", ["linear", "dot_product"])
def test_md17_ablation_changes_the_messages_alone(molecule, variant):
    published = to_plain(md17.get_config(molecule))
    changed = to_plain(md17.get_config(f"{molecule},variant={variant}"))
    for field in ("attention", "nonlinear_message"):
        published["model"].pop(field)
    assert changed["model"].pop("attention") == ("mlp" if variant == "linear" else variant)
    assert changed["model"].pop("nonlinear_message") is False
    assert changed == published

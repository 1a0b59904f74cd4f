from __future__ import annotations

import matplotlib.image
import numpy as np
import pytest

from equiformer_jax.inference.plots import plot_learning_curve, plot_parity, plot_run
from equiformer_jax.training.evaluation import Evaluation
from equiformer_jax.training.metrics import MetricsFile


def epochs(count, forces=True):
    names = ["energy_mae_mev"] + ["force_mae_mev_per_angstrom"] * forces
    return [
        {"kind": "epoch", "epoch": epoch, "step": 4 * epoch, "learning_rate": 1e-3 / epoch}
        | {f"{split}_{name}": 300 / epoch for split in ("train", "validation") for name in names}
        for epoch in range(1, count + 1)
    ]


def evaluation(forces=True, split="test"):
    generator = np.random.default_rng(0)
    energies, components = generator.normal(size=20) - 1000, generator.normal(size=(60, 3))
    return Evaluation(
        split=split,
        metrics={},
        predicted_energies=energies + 0.05,
        reference_energies=energies,
        predicted_forces=components * 1.1 if forces else None,
        reference_forces=components if forces else None,
    )


def is_a_picture(path):
    pixels = matplotlib.image.imread(path)
    return min(pixels.shape[:2]) > 300 and pixels.std() > 0.01


@pytest.mark.parametrize("count", [1, 2, 40])
@pytest.mark.parametrize("forces", [True, False])
def test_learning_curves_are_drawn(tmp_path, count, forces):
    assert is_a_picture(plot_learning_curve(epochs(count, forces), tmp_path / "curve.png"))


def test_parts_of_epochs_do_not_enter_the_learning_curve(tmp_path):
    with pytest.raises(ValueError, match="no epoch has been recorded"):
        plot_learning_curve([{"kind": "steps", "epoch": 1}], tmp_path / "curve.png")


@pytest.mark.parametrize("forces", [True, False])
def test_parity_is_drawn(tmp_path, forces):
    assert is_a_picture(plot_parity(evaluation(forces), tmp_path / "parity.png"))


@pytest.mark.parametrize(("split", "name"), [("test", "parity"), ("train", "parity_train")])
def test_a_run_gets_both_pictures(tmp_path, split, name):
    log = MetricsFile(tmp_path)
    for record in epochs(3):
        log.write(record)
    files = plot_run(tmp_path, evaluation(split=split))
    assert [file.name for file in files] == [
        "learning_curve.png",
        f"{name}.png",
        "metrics.jsonl",
        f"{split}_metrics.json",
    ]
    assert all(file.is_absolute() for file in files)


def test_the_force_error_is_told_relative_to_predicting_zero():
    assert evaluation().force_error_relative_to_zero == pytest.approx(0.1)
    assert evaluation(forces=False).force_error_relative_to_zero is None

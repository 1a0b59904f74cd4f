from __future__ import annotations

import matplotlib.image
import pytest

from equiformer_jax.inference import plots
from equiformer_jax.inference.plots import plot_learning_curve, plot_parity
from tests.inference.made_up_runs import ERRORS, make_epochs, make_evaluation

ENERGY = ("energy_mae_mev",)
FOUR = (*ERRORS, "stress_mae_mev_per_cubic_angstrom", "noise_mae_angstrom")


def width(path):
    """Of a picture with something in it, pixels."""
    pixels = matplotlib.image.imread(path)
    assert min(pixels.shape[:2]) > 300
    assert pixels.std() > 0.01
    return pixels.shape[1]


@pytest.fixture
def drawn(monkeypatch):
    """Figures in the order in which they are saved."""
    figures = []
    save = plots.Figure.savefig

    def savefig(figure, path):
        figures.append(figure)
        save(figure, path)

    monkeypatch.setattr(plots.Figure, "savefig", savefig)
    return figures


@pytest.mark.parametrize("count", [1, 2, 60])
@pytest.mark.parametrize("names", [tuple(ERRORS), ENERGY])
def test_learning_curves_are_drawn(tmp_path, count, names):
    width(plot_learning_curve(make_epochs(count, names), tmp_path / "curve.png"))


def test_every_error_gets_a_panel_up_to_three(tmp_path):
    paths = [tmp_path / f"{count}.png" for count in (1, 2, 3, 4)]
    widths = [
        width(plot_learning_curve(make_epochs(3, FOUR[:count]), path))
        for count, path in enumerate(paths, start=1)
    ]
    assert widths[1:3] == [2 * widths[0], 3 * widths[0]]
    assert widths[3] == widths[2]


@pytest.mark.parametrize(
    ("metric", "title"),
    [
        ("alpha_mae_bohr3", "Polarizability α: validation MAE 100 bohr³"),
        ("energy_mae_ev", "Energy: validation MAE 100 eV"),
        ("force_mae_mev_per_angstrom", "Forces: validation MAE 100 meV/Å"),
    ],
)
def test_panels_are_called_after_the_metric(tmp_path, drawn, metric, title):
    plot_learning_curve(make_epochs(3, (metric,)), tmp_path / "curve.png")
    assert drawn[0].axes[0].get_title("left") == title


def test_the_test_split_and_averaged_weights_are_drawn_where_they_were_measured(tmp_path, drawn):
    records = make_epochs(6, ENERGY, ("train", "validation", "ema_validation"))
    records[1]["test_energy_mae_mev"] = records[4]["test_energy_mae_mev"] = 200.0
    plot_learning_curve(records, tmp_path / "curve.png")
    lines = {line.get_label(): line.get_xdata().tolist() for line in drawn[0].axes[0].get_lines()}
    assert lines == {
        "train": [1, 2, 3, 4, 5, 6],
        "validation": [1, 2, 3, 4, 5, 6],
        "validation, averaged weights": [1, 2, 3, 4, 5, 6],
        "test": [2, 5],
    }


def test_small_errors_are_told_without_exponents(tmp_path, drawn):
    records = make_epochs(2, ("mu_mae_debye",))
    for record, value in zip(records, (0.31, 0.29), strict=True):
        record["train_mu_mae_debye"] = record["validation_mu_mae_debye"] = value
    plot_learning_curve(records, tmp_path / "curve.png")
    ticks = [text.get_text() for text in drawn[0].axes[0].get_yticklabels(which="both")]
    assert any("0.3" in tick for tick in ticks)
    assert not any("e" in tick for tick in ticks)


def test_parts_of_epochs_do_not_enter_the_learning_curve(tmp_path):
    with pytest.raises(ValueError, match="no epoch has been recorded"):
        plot_learning_curve([{"kind": "steps", "epoch": 1}], tmp_path / "curve.png")


def test_records_without_errors_are_refused(tmp_path):
    with pytest.raises(ValueError, match="records: expected a mean absolute error"):
        plot_learning_curve(make_epochs(2, ()), tmp_path / "curve.png")


@pytest.mark.parametrize("forces", [True, False])
def test_parity_is_drawn(tmp_path, forces):
    width(plot_parity(make_evaluation(forces=forces), tmp_path / "parity.png"))


def test_parity_is_told_in_the_unit_of_the_label(tmp_path, drawn):
    evaluation = make_evaluation(forces=False, label="alpha", energy_unit="a0^3", metrics={})
    plot_parity(evaluation, tmp_path / "parity.png")
    axes = drawn[0].axes[0]
    assert axes.get_title("left") == "Polarizability α: MAE 0.0500 bohr³"
    assert axes.get_xlabel() == "reference, bohr³"
    plot_parity(make_evaluation(), tmp_path / "parity.png")
    axes = drawn[1].axes[0]
    assert axes.get_title("left") == "Energy: MAE 50.0 meV"
    assert axes.get_xlabel() == "reference − mean, eV"


def test_many_structures_are_counted_in_cells(tmp_path, drawn):
    plot_parity(make_evaluation(3001, forces=False), tmp_path / "parity.png")
    assert [axes.get_ylabel() for axes in drawn[0].axes] == [
        "prediction − mean, eV",
        "structures in a cell",
    ]


def test_the_force_error_is_told_relative_to_predicting_zero():
    assert make_evaluation().force_error_relative_to_zero == pytest.approx(0.1)
    assert make_evaluation(forces=False).force_error_relative_to_zero is None

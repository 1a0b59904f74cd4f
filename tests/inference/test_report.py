from __future__ import annotations

import dataclasses
import json
import re

import pytest

from equiformer_jax.inference.report import report_run, write_report
from equiformer_jax.inference.report_parts import describe_model
from equiformer_jax.models.presets import get_preset
from equiformer_jax.training.configuration import to_plain
from equiformer_jax.training.errors import WorkdirError
from equiformer_jax.training.metrics import MetricsFile
from equiformer_jax.training.run_facts import RunFacts
from equiformer_jax.training.workdir import save_config
from experiments.configs import oc20_is2re, qm9, quickstart, rmd17
from tests.inference.made_up_runs import make_epochs, make_evaluation

FACTS = RunFacts(
    split_sizes={"train": 950, "validation": 50, "test": 20},
    num_parameters=3_501_234,
    devices="2 x cpu",
    package_version="1.2.3",
    jax_version="4.5.6",
)
CONFIG = to_plain(rmd17.get_config("aspirin"))


def report(tmp_path, evaluation=None, config=CONFIG, epochs=3, facts=FACTS):
    records = make_epochs(epochs) + [{"kind": "steps", "epoch": epochs + 1, "step": 100}]
    path = write_report(tmp_path, evaluation or make_evaluation(), config, records, facts)
    return path.read_text(encoding="utf-8")


def section(text, title):
    return re.split(r"^## ", text.split(f"## {title}")[1], flags=re.MULTILINE)[0]


def cells(text):
    """The rows of the tables, the header and its rule left out."""
    rows = [line.strip("| ").split("|") for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row] for row in rows]


def test_a_report_has_all_its_sections(tmp_path):
    titles = re.findall(r"^## (.*)$", report(tmp_path), flags=re.MULTILINE)
    assert titles == [
        "What was trained",
        "Errors on the test split",
        "Beside the published figures",
        "Learning curve",
        "Predictions and references",
        "How the errors are spread",
        "Errors by element",
        "Configuration",
    ]


def test_what_was_trained_is_told(tmp_path):
    evaluation = dataclasses.replace(make_evaluation(), weights="the best ones, after 12 steps")
    rows = dict(cells(section(report(tmp_path, evaluation), "What was trained"))[2:])
    assert rows["data set"] == "revised MD17 aspirin, split 1"
    assert rows["structures"] == "train 950, validation 50, test 20"
    assert rows["model"].startswith("`md17_l2`: 6 blocks of 128x0e+64x1e+32x2e, nonlinear messages")
    assert rows["parameters"] == "3,501,234"
    assert rows["epochs"] == "3 of 1,500"
    assert rows["weights"] == "the best ones, after 12 steps"
    assert rows["devices"] == "2 x cpu"
    assert rows["in training steps"] == "0:06"  # 12 steps of 8 structures, 16 in a second
    assert rows["versions"] == "equiformer_jax 1.2.3, jax 4.5.6"


def test_errors_have_units(tmp_path):
    text = report(tmp_path)
    rows = cells(section(text, "Errors on the test split"))[2:]
    assert rows == [
        ["Energy", "50.0", "meV"],
        ["Forces", "20.0", "meV/Å"],
        ["Forces, of the error of predicting zero", "10.0", "%"],
    ]
    assert "**Mean absolute error: Energy 50.0 meV, Forces 20.0 meV/Å**, over 20 structures" in text


def test_pictures_are_beside_the_report(tmp_path):
    pictures = re.findall(r"!\[.*\]\((.*)\)", report(tmp_path))
    assert pictures == ["learning_curve.png", "parity.png"]
    assert all((tmp_path / picture).stat().st_size > 1000 for picture in pictures)


def test_the_published_figure_comes_with_what_differs(tmp_path):
    text = section(report(tmp_path), "Beside the published figures")
    rows = cells(text)
    assert ["**Energy, meV**", "50.0", "5.3", ""] in [row + [""] * (4 - len(row)) for row in rows]
    assert ["epochs", "3", "1,500", "differs"] in rows
    assert "**What differs: data set, epochs, measured on.**" in text
    assert "arXiv:2206.11990" in text


@pytest.mark.parametrize(
    ("config", "metrics"),
    [
        (to_plain(quickstart.get_config()), {"energy_mae_mev": 1.0}),
        (CONFIG, {"something_mae_else": 1.0}),
    ],
)
def test_where_nothing_was_published_the_report_says_so(tmp_path, config, metrics):
    text = report(tmp_path, make_evaluation(metrics=metrics), config)
    told = section(text, "Beside the published figures").strip()
    assert told == "No published figure is known for this data set and this kind of model."


def test_the_best_epoch_is_told(tmp_path):
    records = make_epochs(4, ("energy_mae_mev",))
    records[1]["validation_energy_mae_mev"] = 10.0
    path = write_report(tmp_path, make_evaluation(), CONFIG, records, FACTS)
    text = section(path.read_text(encoding="utf-8"), "Learning curve")
    assert "75.0 meV after the last epoch; lowest after epoch 2, 10.0 meV" in text


def test_a_run_without_epochs_gets_a_report(tmp_path):
    text = report(tmp_path, epochs=0)
    assert "No epoch has been recorded." in section(text, "Learning curve")
    assert not (tmp_path / "learning_curve.png").exists()


def test_the_largest_errors_are_named(tmp_path):
    text = section(report(tmp_path), "How the errors are spread")
    assert cells(text)[2][0::5] == ["Energy", "meV"]
    assert re.search(r"\* Energy: `made_up.xyz: structure \d+`", text)
    assert re.search(r"\* Force components: `made_up.xyz: structure \d+, atom \d \([HCO]\)", text)


def test_forces_are_told_by_atoms(tmp_path):
    text = section(report(tmp_path), "Errors by element")
    assert cells(text)[0] == ["element", "atoms", "mean absolute error, meV/Å"]
    assert [row[:2] for row in cells(text)[2:]] == [["H", "38"], ["C", "13"], ["O", "14"]]


def test_labels_alone_are_told_by_structures(tmp_path):
    evaluation = make_evaluation(
        forces=False, label="alpha", energy_unit="a0^3", metrics={"alpha_mae_bohr3": 0.05}
    )
    text = report(tmp_path, evaluation, to_plain(qm9.get_config("alpha")))
    rows = cells(section(text, "Errors by element"))
    assert rows[0] == ["element", "structures", "mean absolute error, bohr³"]
    assert rows[2] == ["H", "13", "0.0500"]
    assert "Polarizability α of the structures" in text


def test_the_share_within_the_threshold_is_a_percentage(tmp_path):
    metrics = {"energy_mae_ev": 0.05, "energy_within_threshold": 0.031}
    evaluation = make_evaluation(forces=False, metrics=metrics)
    text = report(tmp_path, evaluation, to_plain(oc20_is2re.get_config("nonlinear")))
    rows = cells(section(text, "Errors on the test split"))
    assert rows[2:] == [["Energy", "0.0500", "eV"], ["Energies within 0.02 eV", "3.10", "%"]]


def test_the_configuration_is_all_there(tmp_path):
    text = section(report(tmp_path), "Configuration")
    assert "<details>\n<summary>" in text
    assert "</details>" in text
    assert json.loads(text.split("```json\n")[1].split("```")[0]) == CONFIG


def test_another_split_does_not_replace_the_report_on_the_test_split(tmp_path):
    path = write_report(tmp_path, make_evaluation(split="train"), CONFIG, make_epochs(2), FACTS)
    assert path == tmp_path / "report_train.md"
    assert "parity_train.png" in path.read_text(encoding="utf-8")
    assert not (tmp_path / "report.md").exists()


def test_a_new_report_replaces_the_old_one_and_leaves_nothing_behind(tmp_path):
    report(tmp_path, epochs=2)
    assert "3 of 1,500" in report(tmp_path, epochs=3)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["learning_curve.png", "parity.png", "report.md"]


def test_a_report_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "report.md").mkdir()
    with pytest.raises(WorkdirError, match=r"cannot write .*report\.md"):
        report(tmp_path)


def test_a_changed_model_is_described_without_a_name():
    model = get_preset("md17_l2", num_layers=2, attention="dot_product", nonlinear_message=False)
    assert describe_model(model).startswith("2 blocks of")
    assert "dot-product attention" in describe_model(model)


def test_a_model_that_makes_intermediates_again_keeps_its_name():
    model = get_preset("oc20_is2re", edge_block_size=1024, remat=True)
    assert describe_model(model).startswith("`oc20_is2re`: 6 blocks of")


def test_the_number_of_training_structures_must_be_given():
    with pytest.raises(ValueError, match=r"split_sizes: expected 'train' among \['test'\]"):
        RunFacts({"test": 3}, 1, "2 x cpu")


@pytest.mark.parametrize(
    ("split", "names"),
    [("test", ("report", "parity")), ("train", ("report_train", "parity_train"))],
)
def test_a_workdir_is_all_that_a_report_needs(tmp_path, split, names):
    save_config(tmp_path, CONFIG)
    FACTS.save(tmp_path)
    log = MetricsFile(tmp_path)
    for record in make_epochs(3):
        log.write(record)
    files = report_run(tmp_path, make_evaluation(split=split))
    assert [file.name for file in files] == [
        f"{names[0]}.md",
        "learning_curve.png",
        f"{names[1]}.png",
        "metrics.jsonl",
        f"{split}_metrics.json",
    ]
    assert "3,501,234" in files[0].read_text()


def test_a_workdir_without_facts_is_told(tmp_path):
    save_config(tmp_path, CONFIG)
    with pytest.raises(WorkdirError, match=r"run\.json: expected the facts of a run"):
        report_run(tmp_path, make_evaluation())

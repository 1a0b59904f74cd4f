from __future__ import annotations

import numpy as np
import pytest

from equiformer_jax.inference.comparison import compare, describe_data, model_differences
from equiformer_jax.inference.published import PUBLISHED, find_published
from equiformer_jax.models.presets import get_preset
from equiformer_jax.training.configuration import model_settings, to_plain
from equiformer_jax.training.evaluation import Evaluation
from experiments.configs import md17, md22, oc20_is2re, qm9, rmd17
from tests.inference.made_up_runs import structures
from tests.inference.test_published import RECIPES, plain


def measured(count, split="test"):
    return Evaluation(split, {}, structures(()), np.zeros(count), np.zeros(count))


def differing(config, evaluation, num_train, epochs):
    conditions = compare(find_published(config), config, evaluation, num_train, epochs)
    return [condition.name for condition in conditions if condition.differs]


@pytest.mark.parametrize(("module", "argument"), RECIPES)
def test_a_recipe_run_to_the_letter_differs_in_nothing(module, argument):
    config = plain(module, argument)
    run = find_published(config)
    evaluation = measured(run.num_measured)
    assert differing(config, evaluation, run.num_train, config["training"]["num_epochs"]) == []


def test_everything_that_differs_is_told():
    config = rmd17.get_config("aspirin,split=2")
    config.training.batch_size = 16
    config.training.start_from = "runs/other"
    config.optimizer.learning_rate = 1e-3
    config.model.num_layers = 2
    assert differing(to_plain(config), measured(1000), 50, 30) == [
        "data set",
        "training structures",
        "epochs",
        "batch size",
        "learning rate",
        "first weights",
        "model",
        "measured on",
    ]


def test_both_sides_are_told():
    config = plain(rmd17, "aspirin")
    conditions = compare(find_published(config), config, measured(1000), 950, 30)
    told = {condition.name: condition[1:3] for condition in conditions}
    assert told["data set"] == ("revised MD17 aspirin, split 1", "MD17 aspirin")
    assert told["epochs"] == ("30", "1,500")
    assert told["measured on"] == ("test, 1,000 structures", "test, 210,762 structures")


@pytest.mark.parametrize(("split", "differs"), [("test", []), ("train", ["measured on"])])
def test_errors_on_the_training_split_are_no_test_errors(split, differs):
    config = plain(qm9, "mu")
    assert differing(config, measured(10_831, split), 110_000, 300) == differs


@pytest.mark.parametrize(
    ("config", "text"),
    [
        (plain(md17, "uracil"), "MD17 uracil"),
        (plain(md22, "AT-AT"), "MD22 AT-AT"),
        (plain(qm9, "gap"), "QM9"),
        (plain(oc20_is2re, "nonlinear,subset=100k"), "OC20 IS2RE, subset 100k"),
    ],
)
def test_data_sets_have_names(config, text):
    assert describe_data(config) == text


def test_own_files_are_not_the_published_ones():
    config = oc20_is2re.get_config("nonlinear")
    config.data.options = {**to_plain(config.data.options), "train": "mine.lmdb"}
    assert describe_data(to_plain(config)) == "OC20 IS2RE, own files"


@pytest.mark.parametrize("run", PUBLISHED.values(), ids=lambda run: next(iter(run.errors)))
def test_a_preset_does_not_differ_from_itself(run):
    settings = to_plain(model_settings(get_preset(run.preset)))
    assert model_differences(settings, run.preset) == []
    assert model_differences({**settings, "num_layers": 2}, run.preset) == [
        f"num_layers 2 ({get_preset(run.preset).num_layers})"
    ]

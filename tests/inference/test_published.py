from __future__ import annotations

import pytest

from equiformer_jax.inference.published import PUBLISHED, find_published, subject_of_run
from equiformer_jax.training.configuration import to_plain
from equiformer_jax.training.metric_names import quantity_of_metric
from experiments.configs import md17, md22, oc20_is2re, qm9, quickstart, rmd17

RECIPES = [(qm9, target) for target in qm9.RECIPES]
RECIPES += [(md17, "aspirin"), (oc20_is2re, "nonlinear"), (oc20_is2re, "blocks18")]


def plain(module, argument):
    return to_plain(module.get_config(argument))


@pytest.mark.parametrize(("module", "argument"), RECIPES)
def test_a_recipe_finds_what_was_published_with_it(module, argument):
    assert find_published(plain(module, argument)) is not None


def test_every_published_run_belongs_to_a_recipe():
    found = {subject_of_run(plain(module, argument)) for module, argument in RECIPES}
    assert found == set(PUBLISHED)


@pytest.mark.parametrize("run", PUBLISHED.values(), ids=lambda run: next(iter(run.errors)))
def test_every_figure_has_a_unit_a_size_and_a_source(run):
    assert all(quantity_of_metric(name) is not None for name in run.errors)
    assert all(value > 0 for value in run.errors.values())
    assert min(run.num_train, run.num_epochs, run.num_measured) > 0
    assert run.source


def test_some_figures():
    assert find_published(plain(qm9, "alpha")).errors == {"alpha_mae_bohr3": 0.046}
    assert find_published(plain(qm9, "u298")).errors == {"u298_mae_mev": 6.74}
    assert find_published(plain(oc20_is2re, "blocks18")).errors == {"energy_mae_ev": 0.4156}
    assert find_published(plain(md17, "aspirin")).errors == {
        "energy_mae_mev": 5.3,
        "force_mae_mev_per_angstrom": 7.2,
    }


@pytest.mark.parametrize(("module", "argument"), RECIPES)
def test_the_recipes_report_the_metrics_of_the_figures(module, argument):
    config = plain(module, argument)
    reported = {
        "scalar_target": {config["objective"].get("metric_name")},
        "energy_forces": {"energy_mae_mev", "force_mae_mev_per_angstrom"},
        "relaxation": {"energy_mae_ev"},
    }
    assert set(find_published(config).errors) == reported[config["objective"]["kind"]]


@pytest.mark.parametrize(
    ("module", "argument"),
    [
        (md17, "aspirin,lmax=3"),
        (md17, "aspirin,dens"),
        (md17, "aspirin,variant=linear"),
        (md17, "toluene"),
        (md22, None),
        (qm9, "alpha,variant=dot_product"),
        (oc20_is2re, "linear"),
        (oc20_is2re, "e3"),
        (rmd17, "azobenzene"),
    ],
)
def test_another_model_or_molecule_is_not_compared(module, argument):
    assert find_published(plain(module, argument)) is None


def test_an_unpublished_data_set_has_no_figures():
    assert find_published(to_plain(quickstart.get_config())) is None


def test_the_revised_data_find_the_figures_of_the_original_ones():
    assert (
        find_published(plain(rmd17, "aspirin")) is PUBLISHED[subject_of_run(plain(md17, "aspirin"))]
    )

from __future__ import annotations

import dataclasses
import json

import pytest
from ml_collections import config_dict

import equiformer_jax as eqf
from equiformer_jax.training.configuration import (
    describe_difference,
    model_from_settings,
    model_settings,
    to_plain,
)


@pytest.mark.parametrize("preset", ["qm9", "md17_l2", "md17_l3_e3", "oc20_is2re_is2rs"])
def test_settings_give_the_model_back_also_through_json(preset):
    config = eqf.get_preset(preset)
    settings = model_settings(config)
    assert model_from_settings(settings) == config
    assert model_from_settings(json.loads(json.dumps(to_plain(settings)))) == config


def test_every_field_can_be_overridden():
    settings = model_settings(eqf.get_preset("md17_l2"))
    assert set(settings) == {field.name for field in dataclasses.fields(eqf.EquiformerConfig)}
    settings.irreps_pre_attn = "16x0e+8x1e"
    settings.max_neighbors = 20
    with pytest.raises(TypeError):
        settings.max_neighbors = "many"


def test_an_unknown_field_is_named():
    with pytest.raises(ValueError, match="num_layer'"):
        model_from_settings({"num_layer": 3})


def test_differences_are_listed_by_dotted_name():
    old = {"a": {"b": 1, "c": 2}, "d": [1, 2]}
    new = {"a": {"b": 1, "c": 3}, "d": [1, 2], "e": 5, "f": None, "g": 7}
    assert describe_difference(old, new) == [
        "a.c: checkpoint 2, asked for 3",
        "e: checkpoint '(absent)', asked for 5",
        "g: checkpoint '(absent)', asked for 7",
    ]
    ignored = frozenset({"a.c", "e"})
    assert describe_difference(old, new, ignored, earlier={"g": 7, "h": 8}) == []
    assert describe_difference(old, new, ignored, earlier={"g": 6}) == [
        "g: checkpoint 6, asked for 7"
    ]


def test_plain_configurations_are_json():
    config = config_dict.ConfigDict({"a": (1, 2), "b": {"c": config_dict.placeholder(int)}})
    assert to_plain(config) == {"a": [1, 2], "b": {"c": None}}

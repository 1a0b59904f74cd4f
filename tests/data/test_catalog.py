from __future__ import annotations

import pytest

from equiformer_jax.data.catalog import load_dataset


def test_the_embedded_data_set_has_three_splits():
    splits = load_dataset("embedded_aspirin")
    assert {name: len(part) for name, part in splits.items()} == {
        "train": 875,
        "validation": 125,
        "test": 250,
    }
    assert splits["test"].name_of(3) == "embedded aspirin, test: structure 3"


def test_limits_keep_the_first_structures():
    splits = load_dataset("embedded_aspirin", limits={"train": 5, "test": None})
    whole = load_dataset("embedded_aspirin")
    assert [s.energy for s in splits["train"]] == [s.energy for s in whole["train"][:5]]
    assert len(splits["test"]) == 250


@pytest.mark.parametrize(
    ("name", "options", "limits", "message"),
    [
        ("md18", {}, {}, "unknown data set 'md18'; known are"),
        ("md17", {"molecul": "aspirin"}, {}, r"unknown \['molecul'\], missing \['molecule'\]"),
        ("md22", {"system": "DHA"}, {}, r"missing \['num_train', 'num_validation'\]"),
        ("files", {"train": "x", "charge": "q"}, {}, r"unknown \['charge'\], missing \[\]"),
        ("embedded_aspirin", {}, {"trian": 3}, "unknown split 'trian' in limits"),
        ("embedded_aspirin", {}, {"train": 0}, "the limit of split 'train' is 0"),
    ],
)
def test_what_is_unknown_or_missing_is_named(name, options, limits, message):
    with pytest.raises(ValueError, match=message):
        load_dataset(name, options, limits)

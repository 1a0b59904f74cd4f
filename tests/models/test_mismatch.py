from __future__ import annotations

from equiformer_jax.models.mismatch import describe_mismatch

EXPECTED = {"a": (2, 3), "b": (4,)}


def test_nothing_is_said_where_all_fit():
    assert describe_mismatch(EXPECTED, EXPECTED) == ""


def test_every_kind_is_named_and_no_other():
    found = {"a": (3, 2), "c": (1,)}
    assert describe_mismatch(found, EXPECTED) == (
        "missing: b; unexpected: c; of another shape: a (is (3, 2), expected (2, 3))"
    )
    assert describe_mismatch({**EXPECTED, "c": (1,)}, EXPECTED) == "unexpected: c"


def test_names_can_be_ignored_and_axes_of_length_one_too():
    assert describe_mismatch({**EXPECTED, "c": (1,)}, EXPECTED, ignored=["c"]) == ""
    found = {**EXPECTED, "b": (1, 4, 1)}
    assert describe_mismatch(found, EXPECTED, ones_count=False) == ""
    assert "of another shape: b" in describe_mismatch(found, EXPECTED)

from __future__ import annotations

from equiformer_jax.inference.markdown import code, table


def test_columns_are_straight_and_numbers_on_the_right():
    assert table(["element", "atoms"], [["H", "3,000"], ["C", "20"]], numbers=[1]) == (
        "| element | atoms |\n| ------- | ----: |\n| H       | 3,000 |\n| C       |    20 |"
    )


def test_a_cell_cannot_break_the_table():
    lines = table(["", ""], [["a|b", "two\nlines"]]).splitlines()
    assert len(lines) == 3
    assert lines[2] == r"| a\|b | two lines |"


def test_names_stay_names():
    assert code("a_b*c*") == "`a_b*c*`"
    assert code("a`b") == "``a`b``"

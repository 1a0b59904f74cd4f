from __future__ import annotations

import numpy as np
import pytest

from equiformer_jax.data.errors import DataError
from equiformer_jax.data.readers.qm9_targets import (
    ATOMIC_REFERENCES,
    PUBLISHED_COLUMNS,
    TARGETS,
    convert_published,
    find_target,
    read_atomic_references,
)
from tests.data.readers.qm9_samples import REFERENCES
from tests.paths import REAL_DATA, needs_real_data

ATOMREF = """
=====
  Ele-    ZPVE         U (0 K)      U (298.15 K)    H (298.15 K)    G (298.15 K)     CV
  ment   Hartree       Hartree        Hartree         Hartree         Hartree   Cal/(Mol Kelvin)
=====
""" + "".join(
    f"   {element}     0.000000   {'   '.join(map(str, values))}   2.981\n"
    for element, values in REFERENCES.items()
)


def test_targets_have_the_numbers_of_the_papers():
    assert [target.number for target in TARGETS] == list(range(19))
    assert [target.name for target in TARGETS] == [*PUBLISHED_COLUMNS[3:], "A", "B", "C"]
    assert [t.number for t in TARGETS if t.subtracts_references] == [7, 8, 9, 10]
    in_hartree = [t.number for t in TARGETS if t.factor == 27.211386246]
    assert in_hartree == [2, 3, 4, 6, 7, 8, 9, 10]
    assert [t.number for t in TARGETS if t.factor == 0.04336414] == [12, 13, 14, 15]
    assert [t.number for t in TARGETS if t.unit == "eV"] == [*in_hartree, 12, 13, 14, 15]


@pytest.mark.parametrize(
    ("given", "name"),
    [(1, "alpha"), (np.int64(7), "u0"), ("U0", "u0"), ("U", "u298"), ("H", "h298"), ("G", "g298")]
    + [("Cv", "cv"), ("C", "C"), ("gap", "gap")],
)
def test_targets_are_found_by_number_name_and_alias(given, name):
    assert find_target(given).name == name


@pytest.mark.parametrize("given", [19, -1, "energy", ""])
def test_an_unknown_target_is_refused(given):
    with pytest.raises(ValueError, match=f"unknown QM9 target {given!r}.* 1 alpha, .* 18 C"):
        find_target(given)


def test_labels_are_converted_and_references_subtracted():
    published = np.arange(1.0, 20.0)[None]
    values = convert_published(published, np.array([8, 1, 1], np.uint8), np.array([3]))[0]
    hartree, kcal = 27.211386246, 0.04336414
    assert values[:2].tolist() == [4, 5]
    assert values[2:5] == pytest.approx(np.array([6, 7, 8]) * hartree)
    assert values[5:7] == pytest.approx([9, 10 * hartree])
    sums = np.array(REFERENCES["O"]) + 2 * np.array(REFERENCES["H"])
    assert values[7:11] == pytest.approx((np.array([11, 12, 13, 14]) - sums) * hartree)
    assert values[11:] == pytest.approx([15, *np.array([16, 17, 18, 19]) * kcal, 1, 2, 3])


def test_references_come_from_the_file(tmp_path):
    path = tmp_path / "atomref.txt"
    path.write_text(ATOMREF)
    assert read_atomic_references(path) == ATOMIC_REFERENCES
    assert ATOMIC_REFERENCES["g298"][9] == pytest.approx(-99.733544 * 27.211386246, rel=1e-15)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("   N ", "   P ", "no row for N"),
        ("-75.063163", "-75.o63163", r"O: expected six numbers .* -75\.o63163"),
        ("-75.063163", "nan", "O: 'u298': not finite"),
        (ATOMREF, "", "no row for H"),
        (ATOMREF, "<html>not found</html>", "no row for H"),
    ],
)
def test_a_damaged_reference_file_is_refused(tmp_path, old, new, message):
    path = tmp_path / "atomref.txt"
    path.write_text(ATOMREF.replace(old, new))
    with pytest.raises(DataError, match=f"atomref.txt: {message}"):
        read_atomic_references(path)


@needs_real_data
def test_the_public_reference_file_has_the_values_of_the_table():
    assert read_atomic_references(REAL_DATA / "qm9" / "atomref.txt") == ATOMIC_REFERENCES

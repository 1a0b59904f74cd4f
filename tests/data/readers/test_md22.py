from __future__ import annotations

import numpy as np
import pytest

from equiformer_jax.data.errors import DataError
from equiformer_jax.data.readers.md22 import MD22_SYSTEMS, read_md22
from tests.paths import REAL_DATA, needs_real_data

EV = 0.04336410390059322
PROPERTIES = "Properties=species:S:1:pos:R:3:forces:R:3"


def arrays(num_frames=3):
    rng = np.random.default_rng(0)
    return {
        "E": rng.normal(-620720, 5, (num_frames, 1)).round(6),
        "F": rng.normal(size=(num_frames, 3, 3)).round(5),
        "R": rng.normal(size=(num_frames, 3, 3)).round(5),
        "z": np.array([8, 1, 1], np.uint8),
    }


def xyz_text(values):
    """The public layout, trailing blanks included."""
    lines = []
    for energy, forces, positions in zip(values["E"], values["F"], values["R"], strict=True):
        lines += ["3", f"Energy={energy[0]} {PROPERTIES}"]
        for symbol, place, force in zip("OHH", positions, forces, strict=True):
            numbers = "   ".join(str(number) for number in (*place, *force))
            lines.append(f"{symbol}  {numbers}  ")
    return "\n".join(lines) + "\n"


def write(tmp_path, text):
    path = tmp_path / "md22_water.xyz"
    path.write_text(text)
    return path


def assert_equal(ours, theirs):
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs, strict=True):
        assert one.energy == other.energy
        assert one.properties == other.properties
        for field in ("positions", "atomic_numbers", "forces"):
            np.testing.assert_array_equal(getattr(one, field), getattr(other, field))
        assert one.cell is None and not one.is_periodic


def test_both_formats_give_the_same(tmp_path):
    values = arrays()
    np.savez(tmp_path / "md22_water.npz", **values)
    from_npz = read_md22(tmp_path / "md22_water.npz")
    from_xyz = read_md22(write(tmp_path, xyz_text(values)))
    assert_equal(from_xyz, from_npz)
    assert from_xyz[1].energy == values["E"][1, 0] * EV
    np.testing.assert_array_equal(from_xyz[1].forces, values["F"][1] * EV)


def test_blank_lines_at_the_end_are_taken(tmp_path):
    assert len(read_md22(write(tmp_path, xyz_text(arrays()) + "\n\n"))) == 3


def replaced(old, new, occurrence):
    """The text with one occurrence of `old` changed."""
    parts = xyz_text(arrays()).split(old)
    return old.join(parts[:occurrence]) + new + old.join(parts[occurrence:])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no frames"),
        ("\n".join(xyz_text(arrays()).splitlines()[:-1]), "frame 2: ends after 2 of 3 atoms"),
        (xyz_text(arrays())[:-30], "frame 2: "),
        ("\n".join(xyz_text(arrays()).splitlines()[:6]), "frame 1: ends after 0 of 3 atoms"),
        (replaced("3\nEnergy", "three\nEnergy", 2), "frame 1: expected the number of atoms, got"),
        (replaced("Energy=", "energy=", 2), r"frame 1: 'Energy': .* kcal/mol.* found .*'energy'"),
        (replaced("Energy=", "Energy=low", 3), "frame 2: 'Energy': .* found the value 'low-"),
        (replaced(":forces:R:3", "", 2), "frame 1: 'forces': missing; expected Properties="),
        (replaced("O  ", "Q  ", 3), "frame 2: .*unknown element or key 'Q'"),
        (replaced("O  ", "O  x", 1), "frame 0: .*could not convert string to float"),
        (replaced("O  ", "N  ", 2), "frame 1: 'species': not the atoms of frame 0"),
        (replaced("Energy=", "Energy=nan ", 2), "frame 1: 'Energy': not finite"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, text, message):
    with pytest.raises(DataError, match=rf"md22_water\.xyz: {message}"):
        read_md22(write(tmp_path, text))


def test_a_coordinate_that_is_not_finite_is_named(tmp_path):
    values = arrays()
    values["R"][2, 1, 0] = np.inf
    with pytest.raises(DataError, match="frame 2: 'pos': not finite for atom 1: inf"):
        read_md22(write(tmp_path, xyz_text(values)))


def test_another_format_is_recognized(tmp_path):
    np.savez(tmp_path / "a.npz", **arrays())
    path = (tmp_path / "a.npz").rename(tmp_path / "a.xyz")
    with pytest.raises(DataError, match=r"a\.xyz: frame 0: .* \(this is a zip archive\)"):
        read_md22(path)
    path = write(tmp_path, xyz_text(arrays())).rename(tmp_path / "b.npz")
    with pytest.raises(DataError, match=r"b\.npz: expected an \.npz file, but this is a text"):
        read_md22(path)


def test_a_missing_file_is_named(tmp_path):
    for name in ("absent.xyz", "absent.npz"):
        with pytest.raises(FileNotFoundError, match=name):
            read_md22(tmp_path / name)


def test_the_table_has_seven_systems():
    assert len(MD22_SYSTEMS) == 7
    assert sum(system.num_frames for system in MD22_SYSTEMS.values()) == 223_422
    assert MD22_SYSTEMS["double-walled_nanotube"].num_atoms == 370
    assert len(MD22_SYSTEMS["double-walled_nanotube"].files) == 2


@needs_real_data
def test_the_public_peptide_is_the_same_in_both_formats():
    path = REAL_DATA / "md22" / "md22_Ac-Ala3-NHMe_5frames.xyz"
    frames = read_md22(path)
    assert len(frames) == 5
    assert len(frames.atomic_numbers) == MD22_SYSTEMS["Ac-Ala3-NHMe"].num_atoms
    assert_equal(frames, read_md22(path.with_suffix(".npz")))
    assert frames[0].energy == -620726.002662 * EV
    assert frames[0].forces[0, 0] == 1.07102 * EV

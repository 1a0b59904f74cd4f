from __future__ import annotations

import pickle

import numpy as np
import pytest

from equiformer_jax.data.errors import DataError
from equiformer_jax.data.readers.extxyz import ExtxyzFrames
from equiformer_jax.data.readers.label_keys import LabelKeys

WATER = """\
3
Properties=species:S:1:pos:R:3:forces:R:3 energy=-14.5 step=1 pbc="F F F"
O 0.0 0.0 0.0 0.1 0.2 0.3
H 0.0 0.0 1.0 -0.1 0.0 0.0
H 0.0 1.0 0.0 0.0 -0.2 -0.3
"""
CRYSTAL = """\
2
Lattice="2 0 0 0 4 0 0 0 8" stress="1 2 3 2 5 6 3 6 9" energy=-3 \
Properties=species:S:1:pos:R:3:forces:R:3:magmoms:R:1
Na 0 0 0 1 2 3 0.5
Cl 1 2 4 -1 -2 -3 -0.5
"""
ENERGY_LINE = "2\nenergy=1.0 Properties=species:S:1:pos:R:3\nH 0 0 0\nH 0 0 1\n"
PLAIN = "1\n\nHe 0 0 0\n"


@pytest.fixture
def write(tmp_path):
    path = tmp_path / "data.extxyz"

    def write_text(text):
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write_text


def read(path, index=":", **keys):
    return ExtxyzFrames(path, LabelKeys(**keys), index)


def test_frames_of_different_sizes_are_read(write):
    frames = read(write(WATER + CRYSTAL.replace("stress", "other") + WATER))
    assert [frame.num_atoms for frame in frames] == [3, 2, 3]
    water, crystal = frames[0], frames[1]
    assert water.energy == -14.5
    assert water.atomic_numbers.tolist() == [8, 1, 1]
    assert water.forces[1].tolist() == [-0.1, 0, 0]
    assert water.properties == {"step": 1}
    assert (water.cell, water.pbc) == (None, (False, False, False))
    np.testing.assert_array_equal(crystal.cell, np.diag([2, 4, 8]))
    assert crystal.pbc == (True, True, True)
    assert frames.name_of(2).endswith("data.extxyz: frame 2")


def test_stress_and_atomic_properties_are_read(write):
    frame = read(write(CRYSTAL), per_atom=("magmoms",))[0]
    np.testing.assert_array_equal(frame.stress, [[1, 2, 3], [2, 5, 6], [3, 6, 9]])
    assert frame.properties["magmoms"].tolist() == [0.5, -0.5]


def test_a_column_that_ase_renames_is_found_by_the_new_name(write):
    text = CRYSTAL.replace("magmoms", "charge") * 3
    assert read(write(text), per_atom=("charges",))[2].properties["charges"].tolist() == [0.5, -0.5]


def test_other_names_and_units(write):
    text = WATER.replace("energy", "REF_energy").replace("forces", "force")
    keys = {"energy": "REF_energy", "forces": "force", "energy_unit": "meV"}
    frame = read(write(text * 2), **keys)[1]
    assert frame.energy == pytest.approx(-14.5e-3)
    assert frame.forces[0].tolist() == pytest.approx([0.1e-3, 0.2e-3, 0.3e-3])


def test_an_index_selects_and_names_stay(write):
    text = "".join(WATER.replace("step=1", f"step={n}") for n in range(6))
    frames = read(write(text), "1:-1:2")
    assert [frame.properties["step"] for frame in frames] == [1, 3]
    assert frames.name_of(1).endswith("frame 3")
    assert read(write(text), -1)[0].properties["step"] == 5


def test_only_selected_frames_need_the_labels(write):
    path = write(PLAIN + WATER + WATER)
    assert len(read(path, "1:")) == 2


def test_files_without_labels_or_with_empty_lines_are_read(write):
    frames = read(write(PLAIN + "\n" + PLAIN + "\n\n"))
    assert [frame.energy for frame in frames] == [None, None]
    assert len(frames) == 2


def test_a_pickled_sequence_reads_on(write):
    frames = pickle.loads(pickle.dumps(read(write(WATER * 3))))
    assert frames[2].energy == -14.5


def test_the_fingerprint_tells_how_the_file_is_read(write):
    path = write(WATER * 3)
    prints = [read(path), read(path, ":2"), read(path, energy_unit="meV")]
    assert len({frames.fingerprint for frames in prints}) == 3
    assert read(path).fingerprint == prints[0].fingerprint


def test_a_label_that_no_frame_has_is_told(write):
    message = r"data\.extxyz: frame 0: 'dft': not there; there are \['energy', 'forces', 'step'\]"
    with pytest.raises(DataError, match=message):
        read(write(WATER * 2), energy="dft")


@pytest.mark.parametrize(
    ("text", "frame", "label"),
    [
        (WATER * 2 + WATER.replace("energy=-14.5", "") + WATER, 2, "energy"),
        (WATER * 2 + WATER.replace("forces", "velo"), 2, "forces"),
        (PLAIN + WATER, 0, "energy"),
    ],
)
def test_the_first_frame_without_a_label_is_told_when_the_file_is_opened(write, text, frame, label):
    with pytest.raises(DataError, match=f"frame {frame}: '{label}': missing here, but frame"):
        read(write(text))


def test_a_label_in_unusual_spelling_is_no_false_alarm(write):
    unusual = ENERGY_LINE.replace("energy=1.0", "'energy' = 1.0")
    quoted = ENERGY_LINE.replace("Properties", "remark='no forces: here' Properties")
    assert [frame.energy for frame in read(write(ENERGY_LINE + unusual + quoted))] == [1, 1, 1]


def test_a_label_that_is_only_mentioned_is_told_when_the_frame_is_read(write):
    mentioned = ENERGY_LINE.replace("energy=1.0", 'remark="the energy=2 is elsewhere"')
    frames = read(write(ENERGY_LINE + mentioned + ENERGY_LINE))
    with pytest.raises(DataError, match="frame 1: 'energy': missing here, but frame 0 has it"):
        frames[1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no frames: the file is empty"),
        ("\n\n", "no frames"),
        (WATER + "3\n", "frame 1: truncated: it ends after 0 of 3 atoms"),
        (WATER + "3\ncomment\nO 0 0 0\n", "frame 1: truncated: it ends after 1 of 3 atoms"),
        (WATER + WATER[:-20], "frame 1: not a frame of an extxyz file"),
        (WATER.replace("3\n", "2\n", 1) + WATER, "frame 1: expected the number of atoms, got 'H "),
        (WATER.replace("3\n", "4\n", 1) + WATER, "frame 1: .*does frame 0 have as many atoms"),
        ("0\n\n", "frame 0: 'positions': a structure needs at least one atom"),
        ("-3\n\n", "frame 0: expected the number of atoms, got '-3'"),
        (b"PK\x03\x04\x00" * 20, r"frame 0: expected the number of atoms, .*a zip archive"),
        ("<!DOCTYPE html>\n", "frame 0: expected the number of atoms, .*a web page"),
        (WATER.replace("O 0", "Xx 0"), "frame 0: .* unknown element or key 'Xx'"),
        (WATER.replace("0.3\n", "nan\n", 1), "frame 0: 'forces': atom 0 is not finite"),
        (WATER.replace("-14.5", "NaN"), "frame 0: 'energy': not finite"),
        (WATER.replace("-14.5", "low"), "frame 0: 'energy': expected numbers, got 'low'"),
        (WATER.replace("energy=-14.5", "energy"), "frame 0: 'energy': expected numbers, got 'T"),
        (WATER.replace('"F F F"', '"T T T"'), "frame 0: 'cell': needed because pbc"),
        (CRYSTAL.replace("2 0 0 0 4", "2 0 0 2 0"), "frame 0: 'cell': its periodic vectors"),
        (CRYSTAL.replace("1 2 3 2", "1 2"), "frame 0: not a frame .*stress"),
    ],
)
def test_what_is_wrong_is_told_with_the_frame(write, text, message):
    with pytest.raises(DataError, match=r"data\.extxyz: " + message):
        read(write(text))


def test_a_malformed_frame_in_the_middle_is_told_when_it_is_read(write):
    frames = read(write(WATER + WATER.replace("0.1", "zero") + WATER))
    assert frames[0].num_atoms == frames[2].num_atoms == 3
    with pytest.raises(DataError, match="frame 1: not a frame of an extxyz file: ValueError"):
        frames[1]


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="none"):
        read(tmp_path / "none.xyz")

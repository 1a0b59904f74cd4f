"""OC20's S2EF archives: extended XYZ files, packed or not, each with a text file beside it."""

from __future__ import annotations

import lzma
import pickle

import numpy as np
import pytest

from equiformer_jax.data.errors import DataError
from equiformer_jax.data.readers.oc20_extxyz import read_oc20_s2ef_extxyz

COLUMNS = "species:S:1:pos:R:3:move_mask:L:1:tags:I:1:forces:R:3"


def frame(seed: int, columns: str = COLUMNS, energy: str = "energy=") -> str:
    """A structure of OC20 with 3 + seed atoms, its total energy -100 - seed."""
    generator = np.random.default_rng(seed)
    num_atoms = 3 + seed
    lines = [
        f"{num_atoms}",
        f'Lattice="5.5 0.0 0.0 1.0 6.5 0.0 0.0 0.0 29.25" Properties={columns} '
        f'{energy}{-100 - seed}.5 free_energy={-100 - seed}.75 pbc="T T T"',
    ]
    for atom in range(num_atoms):
        numbers = [f"{number:.8f}" for number in generator.normal(size=6)]
        kind = ("Pt", "Pt", "O")[atom % 3]
        mask = "F" if atom % 3 == 0 else "T"
        lines.append(" ".join([kind, *numbers[:3], mask, str(atom % 3), *numbers[3:]]))
    return "\n".join(lines) + "\n"


def line(seed: int) -> str:
    return f"random{1000 + seed},frame{7 * seed},{-90.25 - seed}\n"


def write(folder, number, seeds, packed=False, text=None, notes=None):
    contents = {
        "extxyz": "".join(map(frame, seeds)) if text is None else text,
        "txt": "".join(map(line, seeds)) if notes is None else notes,
    }
    for ending, content in contents.items():
        data = content.encode()
        if packed:
            (folder / f"{number}.{ending}.xz").write_bytes(lzma.compress(data))
        else:
            (folder / f"{number}.{ending}").write_bytes(data)


@pytest.mark.parametrize("packed", [False, True])
def test_every_field_has_its_place(tmp_path, packed):
    write(tmp_path, 0, [0, 1], packed)
    structures = read_oc20_s2ef_extxyz(tmp_path)
    assert len(structures) == 2
    for seed, structure in enumerate(structures):
        numbers = np.random.default_rng(seed).normal(size=(3 + seed, 6))
        np.testing.assert_allclose(structure.positions, numbers[:, :3], rtol=0, atol=1e-8)
        np.testing.assert_allclose(structure.forces, numbers[:, 3:], rtol=0, atol=1e-8)
        expected = np.resize([78, 78, 8], 3 + seed)
        np.testing.assert_array_equal(structure.atomic_numbers, expected)
        np.testing.assert_array_equal(structure.tags, np.arange(3 + seed) % 3)
        # The file says which atoms may move.
        np.testing.assert_array_equal(structure.fixed, np.arange(3 + seed) % 3 == 0)
        np.testing.assert_array_equal(structure.cell, [[5.5, 0, 0], [1, 6.5, 0], [0, 0, 29.25]])
        assert structure.pbc == (True, True, True)
        # Adsorption energy: total energy less reference energy.
        assert structure.energy == (-100.5 - seed) - (-90.25 - seed) == -10.25
        reference = -90.25 - seed
        ids = {"sid": 1000 + seed, "fid": 7 * seed, "reference_energy": reference}
        assert structure.properties == ids


@pytest.mark.parametrize("packed", [False, True])
def test_files_follow_one_another_and_are_read_in_any_order(tmp_path, packed):
    for number, seeds in ((10, [4, 5]), (2, [2, 3]), (0, [0, 1])):
        write(tmp_path, number, seeds, packed)
    structures = read_oc20_s2ef_extxyz(tmp_path)
    assert [structure.num_atoms for structure in structures] == [3, 4, 5, 6, 7, 8]
    order = np.random.default_rng(0).permutation(6)
    assert [structures[int(i)].num_atoms for i in order] == (order + 3).tolist()
    ending = ".extxyz.xz" if packed else ".extxyz"
    assert structures.name_of(5) == f"{tmp_path / f'10{ending}'}: record 1"


def test_the_unpacked_file_of_two_is_read(tmp_path):
    write(tmp_path, 0, [0, 1, 2], packed=True)
    write(tmp_path, 0, [5])
    assert [structure.num_atoms for structure in read_oc20_s2ef_extxyz(tmp_path)] == [8]


def test_one_file_can_be_read_alone(tmp_path):
    write(tmp_path, 0, [0, 1])
    write(tmp_path, 1, [2])
    assert len(read_oc20_s2ef_extxyz(tmp_path / "0.extxyz")) == 2


@pytest.mark.parametrize("packed", [False, True])
def test_structures_survive_pickling(tmp_path, packed):
    write(tmp_path, 0, [0, 1], packed)
    structures = read_oc20_s2ef_extxyz(tmp_path)
    before = structures[1]
    content = pickle.dumps(structures)
    assert frame(0).encode()[:40] not in content  # what is unpacked stays behind
    again = pickle.loads(content)
    np.testing.assert_array_equal(again[1].positions, before.positions)
    assert again.fingerprint == structures.fingerprint


def test_the_fingerprint_follows_both_files(tmp_path):
    write(tmp_path, 0, [0])
    fingerprints = {read_oc20_s2ef_extxyz(tmp_path).fingerprint}
    for name in ("0.txt", "0.extxyz"):
        with open(tmp_path / name, "a") as file:
            file.write("random5,frame5,-5.0\n")
        fingerprints.add(read_oc20_s2ef_extxyz(tmp_path).fingerprint)
    assert len(fingerprints) == 3


@pytest.mark.parametrize(
    "bad",
    ["", "random1,frame2", "1,2,3.0", "random1,frame2,x", "random1,frame2,nan", "random1,frame,3"],
)
def test_a_malformed_line_is_named(tmp_path, bad):
    write(tmp_path, 0, [0, 1, 2], notes=line(0) + bad + "\n" + line(2))
    with pytest.raises(DataError, match=r"0.txt: line 2: expected random<number>,frame<number>"):
        read_oc20_s2ef_extxyz(tmp_path)


def test_a_missing_text_file_is_named(tmp_path):
    write(tmp_path, 0, [0])
    (tmp_path / "0.txt").unlink()
    with pytest.raises(DataError, match=r"0.extxyz: no 0.txt or 0.txt.xz beside it"):
        read_oc20_s2ef_extxyz(tmp_path)


def test_nothing_to_read(tmp_path):
    with pytest.raises(FileNotFoundError, match="absent: no such file or folder"):
        read_oc20_s2ef_extxyz(tmp_path / "absent")
    with pytest.raises(DataError, match=r"no files called .*extxyz"):
        read_oc20_s2ef_extxyz(tmp_path)
    write(tmp_path, 0, [], text="")
    with pytest.raises(DataError, match="0.txt: empty"):
        read_oc20_s2ef_extxyz(tmp_path)


WHOLE = frame(0) + frame(1)
DAMAGED = {
    "truncated": (WHOLE[:-90], "record 1: truncated"),
    "one structure less": (frame(0), "1 structures, but 2 lines"),
    "one structure more": (WHOLE + frame(2), "3 structures, but 2 lines"),
    "no number": (frame(0) + "x" + frame(1), "record 1: expected a number of atoms, got b'x4"),
    "huge number": (frame(0) + "9" * 5000 + "\n", "record 1: expected a number of atoms"),
    "row without a column": (
        frame(0) + frame(1)[:-10].rsplit(" ", 1)[0] + "\n",
        "record 1: not a structure",
    ),
    "no energy": (frame(0) + frame(1, energy="other="), "record 1: 'energy': missing"),
    "no forces": (
        frame(0) + frame(1, COLUMNS.replace("forces", "momenta")),
        "record 1: 'forces': missing",
    ),
    "no tags": (frame(0) + frame(1, COLUMNS.replace("tags", "labels")), "record 1: 'tags'"),
    "no mask": (frame(0) + frame(1, COLUMNS.replace("move_mask", "mask")), "record 1: 'move_mask'"),
    "not finite": (frame(0) + frame(1).replace("Pt 0", "Pt nan0", 1), "record 1: not a structure"),
    "unknown element": (frame(0) + frame(1).replace("Pt", "Zz"), "record 1: not a structure"),
    "tag 3": (frame(0) + frame(1).replace(" T 2 ", " T 3 "), "record 1: tags: atom 2: expected 0"),
    "not text": (frame(0) + frame(1).replace("Pt", "P\xe9", 1), "record 1: not a structure"),
}


@pytest.mark.parametrize("name", DAMAGED)
@pytest.mark.parametrize("packed", [False, True])
def test_damage_is_named(tmp_path, name, packed):
    text, message = DAMAGED[name]
    write(tmp_path, 0, [0, 1], packed, text=text)
    structures = read_oc20_s2ef_extxyz(tmp_path)
    with pytest.raises(DataError, match=rf"0.extxyz.*: {message}") as error:
        structures[1]
    assert len(str(error.value)) < 600


@pytest.mark.parametrize("name", ["0.txt.xz", "0.extxyz.xz"])
def test_a_damaged_archive_is_named(tmp_path, name):
    write(tmp_path, 0, [0, 1], packed=True)
    path = tmp_path / name
    for content in (path.read_bytes()[:-20], b"no archive", b""):
        path.write_bytes(content)
        with pytest.raises(DataError, match=rf"{name}: truncated or damaged"):
            read_oc20_s2ef_extxyz(tmp_path)[0]

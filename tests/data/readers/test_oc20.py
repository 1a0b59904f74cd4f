"""OC20's LMDB files become structures, and every fault of a record is named."""

from __future__ import annotations

import pickle

import ase.io
import numpy as np
import pytest

from equiformer_jax.data.errors import DataError
from equiformer_jax.data.minimum_image import relaxation_displacements
from equiformer_jax.data.readers.graph_objects import read_graph_object
from equiformer_jax.data.readers.oc20 import read_oc20_is2re, read_oc20_s2ef
from equiformer_jax.data.structures import StructureSequence
from equiformer_jax.neighbors import neighbor_list
from tests.data.readers import lmdb_samples as samples
from tests.paths import REAL_DATA, needs_real_data

VAL_20 = REAL_DATA / "oc20" / "is2re" / "val_20" / "data.lmdb"
LABELS = ("y_init", "y_relaxed", "pos_relaxed", "force")


def write(path, *records, kind="version 1"):
    return samples.write_lmdb(path / "data.lmdb", [samples.WRITERS[kind](r) for r in records])


def s2ef_fields(**changes):
    fields = samples.oc20_fields()
    for name in LABELS[:3]:
        del fields[name]
    return {**fields, "y": -2.5, "fid": 40, **changes}


@pytest.mark.parametrize("kind", samples.WRITERS)
def test_every_field_of_is2re_has_its_place(tmp_path, kind):
    records = [samples.oc20_fields(seed=seed) for seed in range(3)]
    structures = read_oc20_is2re(write(tmp_path, *records, kind=kind))
    assert isinstance(structures, StructureSequence) and len(structures) == 3
    for fields, structure in zip(records, structures, strict=True):
        np.testing.assert_array_equal(structure.positions, fields["pos"])
        np.testing.assert_array_equal(structure.atomic_numbers, fields["atomic_numbers"])
        np.testing.assert_array_equal(structure.cell, fields["cell"][0])
        np.testing.assert_array_equal(structure.forces, fields["force"])
        np.testing.assert_array_equal(structure.tags, fields["tags"])
        np.testing.assert_array_equal(structure.fixed, fields["fixed"] == 1)
        np.testing.assert_array_equal(structure.relaxed_positions, fields["pos_relaxed"])
        # The energy is that of the positions; what IS2RE predicts is the relaxed one.
        assert structure.energy == fields["y_init"]
        assert structure.relaxed_energy == fields["y_relaxed"]
        assert structure.pbc == (True, True, True)
        assert structure.properties == {"sid": fields["sid"]}


def test_energies_may_be_tensors_and_cells_flat(tmp_path):
    fields = samples.oc20_fields() | {
        "y_init": np.array([1.5]),
        "y_relaxed": np.array(2.5, np.float32),
        "cell": np.eye(3, dtype=np.float32) * 9,
        "sid": np.array([7]),
        "tags": np.array([0, 1, 2, 2], np.float32),
        "natoms": np.array([4]),
    }
    structure = read_oc20_is2re(write(tmp_path, fields))[0]
    assert (structure.energy, structure.relaxed_energy) == (1.5, 2.5)
    assert structure.properties == {"sid": 7}
    np.testing.assert_array_equal(structure.cell, np.eye(3) * 9)


@pytest.mark.parametrize("names", [("y", "force"), ("energy", "forces")])
def test_s2ef_has_energy_forces_and_frame(tmp_path, names):
    fields = s2ef_fields()
    energy, forces = fields.pop("y"), fields.pop("force")
    fields |= {names[0]: energy, names[1]: forces}
    for shard in range(2):
        content = samples.version_2(fields)
        samples.write_lmdb(tmp_path / f"data.{shard:04}.lmdb", [content, content], length=2)
    structures = read_oc20_s2ef(tmp_path)
    assert len(structures) == 4
    structure = structures[3]
    assert structure.energy == -2.5
    np.testing.assert_array_equal(structure.forces, forces)
    assert structure.relaxed_energy is None and structure.relaxed_positions is None
    assert structure.properties == {"sid": 1700380, "fid": 40}
    assert structures.name_of(3) == f"{tmp_path / 'data.0001.lmdb'}: record 1"


@pytest.mark.parametrize("read", [read_oc20_is2re, read_oc20_s2ef])
@pytest.mark.parametrize("absent", ["left out", "none"])
def test_splits_without_labels_can_be_read(tmp_path, read, absent):
    fields = samples.oc20_fields()
    for name in LABELS:
        del fields[name]
        if absent == "none":
            fields[name] = None
    structure = read(write(tmp_path, fields))[0]
    assert structure.energy is None and structure.forces is None
    assert structure.relaxed_energy is None and structure.relaxed_positions is None
    assert structure.tags is not None and structure.properties["sid"] == 1700380


@pytest.mark.parametrize("name", ["pos", "atomic_numbers", "cell", "tags", "fixed"])
def test_a_missing_field_is_named(tmp_path, name):
    fields = samples.oc20_fields()
    del fields[name]
    path = write(tmp_path, samples.oc20_fields(), fields)
    with pytest.raises(DataError, match=rf"data.lmdb: record 1: '{name}': missing"):
        read_oc20_is2re(path)[1]


HUGE = 2**70_000
BAD_FIELDS = {
    "two columns": ("pos", np.zeros((4, 2)), r"expected shape \[N, 3\], got \[4, 2\]"),
    "nan": ("pos", np.full((4, 3), np.nan), "atom 0 is not finite"),
    "no atoms": ("pos", np.zeros((0, 3)), "at least one atom"),
    "text": ("pos", "pos", "expected an array of numbers, got str"),
    "list": ("pos", [1, 2], "expected an array of numbers, got list"),
    "one element less": ("atomic_numbers", np.ones(3), r"expected shape \[4\], got \[3\]"),
    "half an element": ("atomic_numbers", np.full(4, 1.5), "atom 0: expected a whole number"),
    "element 0": ("atomic_numbers", np.arange(4), "atom 0: expected 1 to 118, got 0"),
    "element 119": ("atomic_numbers", np.full(4, 119), "expected 1 to 118, got 119"),
    "two cells": ("cell", np.ones((2, 3, 3)), r"expected shape \[3, 3\], got \[2, 3, 3\]"),
    "flat cell": ("cell", np.ones((1, 3, 3)), "must be independent"),
    "infinite cell": ("cell", np.full((1, 3, 3), np.inf), "lattice vector 0 is not finite"),
    "tag 3": ("tags", np.array([0, 1, 2, 3]), "atom 3: expected 0, 1 or 2, got 3"),
    "tag -1": ("tags", np.array([0, -1, 2, 1]), "atom 1: expected 0, 1 or 2, got -1"),
    "fixed 2": ("fixed", np.array([0, 1, 2, 0]), "atom 2: expected true or false, got 2"),
    "force of one atom": ("force", np.zeros((1, 3)), r"expected shape \[4, 3\], got \[1, 3\]"),
    "infinite energy": ("y_init", float("inf"), "expected a number, got a huge number"),
    "huge energy": ("y_init", HUGE, "expected a number, got a huge number"),
    "nan energy": ("y_relaxed", float("nan"), "not finite"),
    "energy as text": ("y_relaxed", "1.0", "expected a number, got str"),
    "two energies": ("y_relaxed", np.zeros(2), "expected a number, got ndarray"),
    "relaxed nan": ("pos_relaxed", np.full((4, 3), np.inf), "atom 0 is not finite"),
    "other number of atoms": ("natoms", 5, "differs from the 4 positions"),
    "huge number of atoms": ("natoms", HUGE, "differs from the 4 positions"),
    "list of numbers": ("sid", [1], "expected a number or a name, got list"),
    "huge id": ("sid", HUGE, "expected a number or a name, got int"),
}


@pytest.mark.parametrize("name", BAD_FIELDS)
def test_a_bad_field_is_named_as_in_the_file(tmp_path, name):
    field, value, message = BAD_FIELDS[name]
    path = write(tmp_path, samples.oc20_fields(), samples.oc20_fields() | {field: value})
    structures = read_oc20_is2re(path)
    structures[0]
    with pytest.raises(DataError, match=rf"data.lmdb: record 1: '{field}': .*{message}") as error:
        structures[1]
    assert len(str(error.value)) < 500


def test_one_bad_record_does_not_spoil_the_others(tmp_path):
    good = samples.version_1(samples.oc20_fields())
    path = samples.write_lmdb(tmp_path / "data.lmdb", [good, b"garbage", good])
    structures = read_oc20_is2re(path)
    assert structures[0].num_atoms == structures[2].num_atoms == 4
    with pytest.raises(DataError, match=r"data.lmdb: record 1: damaged pickle"):
        structures[1]


def test_structures_survive_pickling_and_selection(tmp_path):
    path = write(tmp_path, *(samples.oc20_fields(seed=seed) for seed in range(4)))
    structures = read_oc20_is2re(path)
    again = pickle.loads(pickle.dumps(structures[1:]))
    assert [s.energy for s in again] == [2.25, 3.25, 4.25]
    assert again.fingerprint == structures[1:].fingerprint != structures.fingerprint
    assert read_oc20_s2ef(path).fingerprint != structures.fingerprint


# ------------------------------------------------------------------------------------ real data


@pytest.fixture(scope="module")
def real():
    return read_oc20_is2re(VAL_20)


@needs_real_data
def test_real_structures_are_those_of_the_extended_xyz_file(real):
    expected = ase.io.read(REAL_DATA / "oc20" / "oc20_is2re_val20.extxyz", ":")
    assert len(real) == len(expected) == 20
    for structure, atoms in zip(real, expected, strict=True):
        np.testing.assert_array_equal(structure.atomic_numbers, atoms.numbers)
        np.testing.assert_allclose(structure.positions, atoms.positions, rtol=0, atol=1e-7)
        np.testing.assert_allclose(structure.cell, atoms.cell, rtol=0, atol=1e-7)
        np.testing.assert_array_equal(structure.tags, atoms.get_tags())
        np.testing.assert_array_equal(structure.fixed, atoms.arrays["fixed"])
        relaxed = atoms.arrays["pos_relaxed"]
        np.testing.assert_allclose(structure.relaxed_positions, relaxed, rtol=0, atol=1e-7)
        assert structure.properties["sid"] == atoms.info["sid"]
        assert structure.energy == atoms.info["y_init"]
        assert structure.relaxed_energy == atoms.info["y_relaxed"]


@needs_real_data
def test_real_slabs_of_version_2_can_be_read():
    structures = read_oc20_is2re(REAL_DATA / "oc20" / "unknown_origin_pyg2_51_slabs.lmdb")
    assert len(structures) == 51
    assert all(s.relaxed_positions is None and s.relaxed_energy < 0 for s in structures)


@needs_real_data
def test_real_atoms_move_by_half_an_angstrom(real):
    nearest, stored, crossing = [], [], []
    for structure in real:
        free = ~structure.fixed
        moved = np.linalg.norm(relaxation_displacements(structure), axis=1)
        difference = structure.relaxed_positions - structure.positions
        apart = np.linalg.norm(difference, axis=1)
        assert moved[structure.fixed].max() < 1e-5
        nearest.append(moved[free].mean())
        stored.append(apart[free].mean())
        crossing.append(np.sum(apart > moved + 1e-3))
    assert np.mean(nearest) == pytest.approx(0.51, abs=0.005)
    assert np.mean(stored) == pytest.approx(1.30, abs=0.005)
    assert max(crossing) == 14


def edges_by_receiver(structure, senders, receivers, shifts):
    """Receiver -> {(sender, shift): length in Å}."""
    vectors = structure.positions[senders] - structure.positions[receivers]
    lengths = np.linalg.norm(vectors + shifts @ structure.cell, axis=1)
    edges: dict[int, dict] = {}
    columns = (senders.tolist(), receivers.tolist(), shifts.tolist(), lengths.tolist())
    for sender, receiver, shift, length in zip(*columns, strict=True):
        edges.setdefault(receiver, {})[sender, *shift] = length
    return edges


def assert_nearest(kept, every):
    """No edge that was left out is shorter than one that was kept."""
    assert kept.keys() <= every.keys()
    left_out = [length for edge, length in every.items() if edge not in kept]
    assert not left_out or min(left_out) > max(kept.values()) - 1e-5


@needs_real_data
def test_real_edges_are_those_of_our_neighbor_list(real):
    """The stored edges are the nearest within 6 Å: all, or 49 or 50 of them where there are more.

    (Where an atom has 50 neighbors or more, the writer of these files mostly kept 49, probably
    because it counted the atom itself.)
    """
    for index, structure in enumerate(real):
        fields = read_graph_object(real.records.value(index), *real.records.place(index))
        stored = edges_by_receiver(structure, *fields["edge_index"], fields["cell_offsets"])
        every = edges_by_receiver(structure, *neighbor_list(structure, 6.0))
        ours = edges_by_receiver(structure, *neighbor_list(structure, 6.0, 50))
        assert stored.keys() == ours.keys() == every.keys()
        for receiver, edges in every.items():
            assert_nearest(stored[receiver], edges)
            assert_nearest(ours[receiver], edges)
            assert len(ours[receiver]) == min(len(edges), 50)
            if len(edges) < 50:
                assert stored[receiver].keys() == ours[receiver].keys()
            else:
                assert len(stored[receiver]) in (49, 50)

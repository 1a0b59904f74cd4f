from __future__ import annotations

import numpy as np
import pytest

from equiformer_jax.data.datasets.oc20 import load_oc20_is2re, load_oc20_s2ef
from equiformer_jax.data.errors import DataError
from tests.data.readers.lmdb_samples import WRITERS, oc20_fields, write_lmdb
from tests.paths import REAL_DATA, needs_real_data


def write(path, *records):
    path.parent.mkdir(parents=True, exist_ok=True)
    write_lmdb(path, [WRITERS["version 1"](fields) for fields in records])
    return str(path)


def test_the_published_folders_are_found(tmp_path):
    write(tmp_path / "is2re" / "100k" / "train" / "data.lmdb", oc20_fields(), oc20_fields(seed=1))
    write(tmp_path / "is2re" / "all" / "val_id" / "data.lmdb", oc20_fields(seed=2))
    splits = load_oc20_is2re(subset="100k", directory=str(tmp_path))
    assert [len(part) for part in splits.values()] == [2, 1, 1]


def test_the_label_is_the_relaxed_energy_and_displacements_are_short(tmp_path):
    fields = oc20_fields()
    lattice = np.asarray(fields["cell"]).reshape(3, 3)
    crossing = {**fields, "pos_relaxed": np.float32(fields["pos"] + 0.1 + lattice[0])}
    files = dict.fromkeys(("train", "validation", "test"), write(tmp_path / "a.lmdb", crossing))
    structure = load_oc20_is2re(**files)["train"][0]
    assert structure.energy == pytest.approx(float(fields["y_relaxed"]))
    moved = structure.relaxed_positions - structure.positions
    np.testing.assert_allclose(moved, 0.1, atol=1e-5)


def test_a_record_without_labels_is_named(tmp_path):
    fields = {name: value for name, value in oc20_fields().items() if name != "y_relaxed"}
    files = dict.fromkeys(("train", "validation", "test"), write(tmp_path / "a.lmdb", fields))
    splits = load_oc20_is2re(**files)
    with pytest.raises(DataError, match=r"a\.lmdb: record 0: 'relaxed_energy': missing"):
        splits["train"][0]


def test_a_missing_archive_says_what_to_unpack_where(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"is2re/all/train is not there; unpack is2res_tr"):
        load_oc20_is2re(directory=str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"data\.options\.train: .*gone is not there"):
        load_oc20_is2re(train=str(tmp_path / "gone"))


def test_a_public_split_is_found_by_its_name_unless_there_is_such_a_file(tmp_path, monkeypatch):
    full = tmp_path / "is2re" / "all"
    for seed, split in enumerate(("train", "val_id", "val_ood_ads", "test_ood_both")):
        write(full / split / "data.lmdb", *[oc20_fields(seed=seed)] * (seed + 1))
    directory = str(tmp_path)
    splits = load_oc20_is2re(test="val_ood_ads", directory=directory)
    assert [len(part) for part in splits.values()] == [1, 2, 3]
    assert splits["test"].name_of(0) == f"{full / 'val_ood_ads' / 'data.lmdb'}: record 0"
    splits = load_oc20_is2re(validation="val_ood_ads", test="test_ood_both", directory=directory)
    assert [len(part) for part in splits.values()] == [1, 3, 4]

    message = r"is2re/all/val_ood_cat is not there; unpack is2res_tr"
    with pytest.raises(FileNotFoundError, match=message):
        load_oc20_is2re(test="val_ood_cat", directory=directory)
    with pytest.raises(FileNotFoundError, match=r"data\.options\.test: val_ood is not there"):
        load_oc20_is2re(test="val_ood", directory=directory)

    monkeypatch.chdir(tmp_path)
    write(tmp_path / "val_ood_ads" / "data.lmdb", *[oc20_fields()] * 5)
    assert len(load_oc20_is2re(test="val_ood_ads", directory=directory)["test"]) == 5


def test_an_unknown_subset_is_refused():
    with pytest.raises(ValueError, match=r"subset='1M'; known are \['10k', '100k', 'all'\]"):
        load_oc20_is2re(subset="1M")


def test_s2ef_tests_on_its_validation_split_if_there_is_no_other(tmp_path):
    train = write(tmp_path / "a.lmdb", oc20_fields())
    validation = write(tmp_path / "b.lmdb", oc20_fields(seed=1), oc20_fields(seed=2))
    splits = load_oc20_s2ef(train, validation)
    assert {name: len(part) for name, part in splits.items()} == {
        "train": 1,
        "validation": 2,
        "test": 2,
    }
    assert splits["test"].name_of(1) == f"{validation}: record 1"


def test_s2ef_is_read_from_the_archives_as_they_unpack(tmp_path):
    (tmp_path / "s2ef").mkdir()
    (tmp_path / "s2ef" / "0.txt").write_text("random7,frame3,-0.25\n")
    (tmp_path / "s2ef" / "0.extxyz").write_text(
        '2\nLattice="9 0 0 0 9 0 0 0 9" pbc="T T T" energy=-1.0 Properties=species:S:1:pos:R:3:'
        "move_mask:L:1:tags:I:1:forces:R:3\nPt 0 0 0 F 1 0 0 0\nO 0 0 2 T 2 0 0 0\n"
    )
    splits = load_oc20_s2ef(str(tmp_path / "s2ef"), str(tmp_path / "s2ef" / "0.extxyz"))
    assert [part[0].energy for part in splits.values()] == [-0.75] * 3


@needs_real_data
def test_real_displacements_are_those_of_the_nearest_images():
    path = str(REAL_DATA / "oc20" / "is2re" / "val_20")
    splits = load_oc20_is2re(train=path, validation=path, test=path)
    means = []
    for structure in splits["train"]:
        moved = structure.relaxed_positions - structure.positions
        means.append(np.linalg.norm(moved, axis=1)[~structure.fixed].mean())
    assert np.mean(means) == pytest.approx(0.51, abs=0.005)  # 1.30 without the nearest images

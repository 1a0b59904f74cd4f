"""OC20: adsorbates on catalysts, from the initial structure to the relaxed one."""

from __future__ import annotations

import dataclasses
import pathlib

from equiformer_jax.data.datasets.places import existing
from equiformer_jax.data.download.cache import data_folder
from equiformer_jax.data.errors import DataError
from equiformer_jax.data.minimum_image import relaxation_displacements
from equiformer_jax.data.readers.oc20 import read_oc20_is2re, read_oc20_s2ef
from equiformer_jax.data.readers.oc20_extxyz import read_oc20_s2ef_extxyz
from equiformer_jax.data.structures import StructureSequence, digest
from equiformer_jax.structure import Structure

SUBSETS = ("10k", "100k", "all")
# Folders of the public archives that the published runs read.
VALIDATION, TEST = "val_id", "val_id"
# Names of folders in `is2re/all`; those of `test` have no public labels.
PUBLISHED_SPLITS = tuple(
    f"{use}_{kind}" for use in ("val", "test") for kind in ("id", "ood_ads", "ood_cat", "ood_both")
)

Splits = dict[str, StructureSequence]


class RelaxationTargets(StructureSequence):
    """IS2RE structures with the label that their models predict.

    `energy` is the relaxed energy; `relaxed_positions` are the images nearest to the positions, so
    that their difference is the displacement that IS2RS predicts, though atoms cross the cell.
    """

    def __init__(self, structures: StructureSequence) -> None:
        """Takes the structures of `read_oc20_is2re`, without reading any."""
        self._structures = structures

    def __len__(self) -> int:
        return len(self._structures)

    def structure(self, index: int) -> Structure:
        """Structure `index`, labeled.

        Raises:
          DataError: it has no relaxed energy or positions, as those of the hidden test split.
        """
        structure = self._structures[index]
        for field in ("relaxed_energy", "relaxed_positions"):
            if getattr(structure, field) is None:
                raise DataError(self.name_of(index), "missing; expected a label", field=field)
        return dataclasses.replace(
            structure,
            energy=structure.relaxed_energy,
            forces=None,
            relaxed_positions=structure.positions + relaxation_displacements(structure),
        )

    def name_of(self, index: int) -> str:
        """File and record."""
        return self._structures.name_of(index)

    @property
    def fingerprint(self) -> str:
        """That of the structures."""
        return digest("relaxation targets", self._structures.fingerprint)


def load_oc20_is2re(
    subset: str = "all",
    train: str | None = None,
    validation: str | None = None,
    test: str | None = None,
    directory: str | None = None,
) -> Splits:
    """The published folders of IS2RE and IS2RS, as the public archive unpacks.

    It has `is2re/<subset>/train/data.lmdb` and `is2re/all/val_id/data.lmdb`. The labels of its test
    splits are not public, so `val_id` is what the published errors are measured on; it validates
    and tests.

    Args:
      subset: of the training data.
      train: file or folder to train on, in place of the published one; a name of
        `PUBLISHED_SPLITS`, such as `val_ood_ads`, where no such file is there, stands for that
        folder of `is2re/all`.
      validation: likewise.
      test: likewise.
      directory: the folder that holds `is2re`; else `oc20` in the folder of all data sets. The
        archive has 8 GB, and 97 unpacked: it is not fetched unasked.

    Raises:
      ValueError: the subset is unknown.
      FileNotFoundError: a file is not there; says where the archive comes from.
    """
    if subset not in SUBSETS:
        raise ValueError(f"data.options.subset={subset!r}; known are {list(SUBSETS)}")
    root = pathlib.Path(directory).expanduser() if directory else data_folder() / "oc20"
    full = root / "is2re" / "all"
    places = {
        "train": (train, root / "is2re" / subset / "train"),
        "validation": (validation, full / VALIDATION),
        "test": (test, full / TEST),
    }
    for split, (given, _) in places.items():
        if given in PUBLISHED_SPLITS and not pathlib.Path(given).exists():
            places[split] = (None, full / given)
    return {
        split: RelaxationTargets(read_oc20_is2re(_place(given, published, split)))
        for split, (given, published) in places.items()
    }


def load_oc20_s2ef(train: str, validation: str, test: str | None = None) -> Splits:
    """Structures of relaxations with energies and forces.

    Args:
      train: file or folder of LMDB files, or of `.extxyz` or `.extxyz.xz` files, as the public
        archives unpack.
      validation: likewise.
      test: likewise; if not given, the validation split.

    Raises:
      FileNotFoundError: a file is not there.
      DataError: a file is damaged or does not hold what it should.
    """
    places = {"train": train, "validation": validation, "test": test or validation}
    return {split: _read_s2ef(existing(place, split)) for split, place in places.items()}


def _read_s2ef(path: pathlib.Path) -> StructureSequence:
    files = [path] if path.is_file() else path.iterdir()
    if any(file.name.endswith((".extxyz", ".extxyz.xz")) for file in files):
        return read_oc20_s2ef_extxyz(path)
    return read_oc20_s2ef(path)


def _place(given: str | None, published: pathlib.Path, split: str) -> pathlib.Path:
    if given:
        return existing(given, split)
    if not published.exists():
        raise FileNotFoundError(
            f"{published} is not there; unpack is2res_train_val_test_lmdbs.tar.gz from "
            "https://dl.fbaipublicfiles.com/opencatalystproject/data/ and point "
            f"data.options.directory at the folder that holds is2re, or give data.options.{split}"
        )
    return published

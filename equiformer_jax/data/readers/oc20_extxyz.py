"""OC20's S2EF archives as they come: pairs of `0.extxyz.xz` and `0.txt.xz`, unpacked or not.

An `extxyz` file holds structures of many systems, with total energies (eV), forces (eV/Å), tags and
the mask of atoms that may move. Line i of the text file beside it belongs to structure i:
`random<number of the system>,frame<number>,<reference energy>`. The adsorption energy, which the
benchmark is about, is the total energy less the reference energy.
"""

from __future__ import annotations

import io
import lzma
import os
import pathlib
import re
from typing import Any, BinaryIO, NamedTuple

import ase
import ase.io
import numpy as np

from equiformer_jax.data.errors import DataError
from equiformer_jax.data.readers.file_series import FileSeries, natural_order
from equiformer_jax.data.readers.oc20 import check_tags
from equiformer_jax.data.structures import StructureSequence, digest, file_fingerprint
from equiformer_jax.structure import Structure, structure_from_ase

_LINE = re.compile(r"random(\d{1,18}),frame(\d{1,18}),(\S{1,40})")
_STRUCTURES = (".extxyz", ".extxyz.xz")
_NOTES = (".txt", ".txt.xz")
_MOST_DIGITS = 9  # of a number of atoms
_REQUIRED = ("energy", "forces", "tags", "move_mask")


class _Notes(NamedTuple):
    """The text file of one file of structures: arrays `[structures]`, and where it lies."""

    file: pathlib.Path
    systems: np.ndarray
    frames: np.ndarray
    reference_energies: np.ndarray


class ExtxyzStructures(StructureSequence):
    """Structures that are read from OC20's files when they are asked for.

    An unpacked file is searched for the beginnings of its structures when the first of them is
    needed. One that is still packed is unpacked in memory (about 45 MB), and only the last one is
    kept: to read those in random order, unpack them first.
    """

    def __init__(self, notes: dict[pathlib.Path, _Notes]) -> None:
        """Takes files of structures, in their order, each with what the text file says."""
        self._notes = notes
        self._series = FileSeries(
            list(notes), [len(beside.reference_energies) for beside in notes.values()]
        )
        self._offsets: dict[pathlib.Path, np.ndarray] = {}
        self._unpacked: tuple[pathlib.Path, bytes] | None = None

    def __len__(self) -> int:
        return len(self._series)

    def structure(self, index: int) -> Structure:
        """Structure `index`.

        Raises:
          DataError: its file is damaged, or has not as many structures as the text file has lines.
        """
        file, record = self._series.place(index)
        atoms = _parse(self._text(file, record), file, record)
        notes = self._notes[file]
        reference = float(notes.reference_energies[record])
        atoms.calc.results["energy"] -= reference
        atoms.info = {
            "sid": int(notes.systems[record]),
            "fid": int(notes.frames[record]),
            "reference_energy": reference,
        }
        try:
            structure = structure_from_ase(atoms)
            check_tags(structure)
        except ValueError as error:
            raise DataError(file, str(error), record=record) from error
        return structure

    def name_of(self, index: int) -> str:
        """File and number of the structure in it."""
        file, record = self._series.place(index)
        return f"{file}: record {record}"

    @property
    def fingerprint(self) -> str:
        """That of all files."""
        pairs = [path for file, notes in self._notes.items() for path in (file, notes.file)]
        return digest(*map(file_fingerprint, pairs))

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_unpacked": None}

    def _text(self, file: pathlib.Path, record: int) -> bytes:
        with self._open(file) as stream:
            offsets = self._offsets.get(file)
            if offsets is None:
                offsets = _find_structures(stream, file, len(self._notes[file].systems))
                self._offsets[file] = offsets
            stream.seek(offsets[record])
            return stream.read(offsets[record + 1] - offsets[record])

    def _open(self, file: pathlib.Path) -> BinaryIO:
        if file.suffix != ".xz":
            return open(file, "rb")
        unpacked = self._unpacked
        if unpacked is None or unpacked[0] != file:
            unpacked = self._unpacked = (file, _read(file))
        return io.BytesIO(unpacked[1])


def read_oc20_s2ef_extxyz(path: str | os.PathLike[str]) -> ExtxyzStructures:
    """Reads an unpacked archive of S2EF, such as `s2ef_train_200K.tar`, without making LMDB files.

    Args:
      path: a folder of `<number>.extxyz` or `.extxyz.xz` files, each with a `.txt` or `.txt.xz`
        file beside it, or one of the former. Of a file that is there both ways the unpacked one is
        read.

    Returns:
      Periodic structures with `energy`, the adsorption energy (total less reference energy), with
      `forces`, `tags` (0 below the surface, 1 surface, 2 adsorbate) and `fixed`; `properties` has
      `sid`, `fid` and `reference_energy`. They are read when they are asked for.

    Raises:
      FileNotFoundError: there is nothing at `path`.
      DataError: there are no such files, a text file is missing, or a line of one is malformed.
    """
    location = pathlib.Path(path)
    if not location.exists():
        raise FileNotFoundError(f"{location}: no such file or folder of extxyz files")
    files = _find_files(location) if location.is_dir() else [location]
    return ExtxyzStructures({file: _read_notes(file) for file in files})


def _find_files(folder: pathlib.Path) -> list[pathlib.Path]:
    found: dict[str, pathlib.Path] = {}
    for ending in _STRUCTURES:
        for file in folder.glob(f"*{ending}"):
            found.setdefault(_stem(file), file)
    if not found:
        raise DataError(folder, "no files called *.extxyz or *.extxyz.xz in this folder")
    return sorted(found.values(), key=natural_order)


def _stem(file: pathlib.Path) -> str:
    """`0` of `0.extxyz.xz`."""
    return file.name.removesuffix(".xz").removesuffix(".extxyz")


def _read_notes(file: pathlib.Path) -> _Notes:
    candidates = [file.with_name(_stem(file) + ending) for ending in _NOTES]
    beside = next((candidate for candidate in candidates if candidate.exists()), None)
    if beside is None:
        raise DataError(file, f"no {candidates[0].name} or {candidates[1].name} beside it")
    lines = _read(beside).decode("utf-8", "replace").splitlines()
    parsed = [_parse_line(line, beside, number) for number, line in enumerate(lines, 1)]
    if not parsed:
        raise DataError(beside, "empty: expected one line per structure")
    systems, frames, references = zip(*parsed, strict=True)
    return _Notes(
        beside,
        np.array(systems, np.int64),
        np.array(frames, np.int64),
        np.array(references, np.float64),
    )


def _parse_line(line: str, file: pathlib.Path, number: int) -> tuple[int, int, float]:
    parts = _LINE.fullmatch(line.strip())
    try:
        reference = float(parts[3]) if parts else np.nan
    except ValueError:
        reference = np.nan
    if parts is None or not np.isfinite(reference):
        raise DataError(
            file,
            f"expected random<number>,frame<number>,<reference energy>, got {line[:80]!r}",
            record=f"line {number}",
        )
    return int(parts[1]), int(parts[2]), reference


def _read(file: pathlib.Path) -> bytes:
    content = file.read_bytes()
    if file.suffix != ".xz":
        return content
    try:
        return lzma.decompress(content)
    except (lzma.LZMAError, EOFError) as error:
        raise DataError(file, f"truncated or damaged: {error}") from error


def _parse(text: bytes, file: pathlib.Path, record: int) -> ase.Atoms:
    """One structure with everything that S2EF promises."""
    try:
        atoms = ase.io.read(io.StringIO(text.decode()), format="extxyz")
    except Exception as error:  # ASE raises whatever malformed text leads it to
        raise DataError(file, f"not a structure: {error}", record=record) from error
    assert isinstance(atoms, ase.Atoms)  # not a list of them, since no index was given
    present = {
        **getattr(atoms.calc, "results", {}),
        **atoms.arrays,
        "move_mask": atoms.constraints or None,
    }
    for name in _REQUIRED:
        if present.get(name) is None:
            raise DataError(file, "missing from the record", record=record, field=name)
    return atoms


def _find_structures(stream: BinaryIO, file: pathlib.Path, expected: int) -> np.ndarray:
    """Where each structure begins, and where the last one ends: int64 `[expected + 1]`."""
    offsets = [0]
    while line := stream.readline():
        record, count = len(offsets) - 1, line.strip()
        if not count.isdigit() or len(count) > _MOST_DIGITS:
            raise DataError(file, f"expected a number of atoms, got {line[:40]!r}", record=record)
        for _ in range(int(count) + 1):  # the title and the atoms
            if not stream.readline():
                raise DataError(file, "truncated: it ends inside of a structure", record=record)
        offsets.append(stream.tell())
    if len(offsets) != expected + 1:
        raise DataError(
            file, f"{len(offsets) - 1} structures, but {expected} lines in the text file beside it"
        )
    return np.array(offsets, np.int64)

"""Three small molecules with invented labels, in the exact layouts of QM9's public files."""

from __future__ import annotations

import bz2
import io
import pathlib
import tarfile
import zipfile

import numpy as np

from equiformer_jax.data.readers.qm9_targets import PUBLISHED_COLUMNS

# Hartree at 0 K, 298.15 K (U, H, G), as published.
REFERENCES = {
    "H": (-0.500273, -0.498857, -0.497912, -0.510927),
    "C": (-37.846772, -37.845355, -37.844411, -37.861317),
    "N": (-54.583861, -54.582445, -54.581501, -54.598897),
    "O": (-75.064579, -75.063163, -75.062219, -75.079532),
    "F": (-99.718730, -99.717314, -99.716370, -99.733544),
}

GEOMETRIES = {
    1: [("O", 0.0, 0.0, 0.1173), ("H", 0.0, 0.7572, -0.4692), ("H", 0.0, -0.7572, -0.4692)],
    2: [("C", -1.2345, 0.5, 10.25), ("N", -0.0825, 0.5, 10.25), ("H", -2.3, 0.5, 10.25)],
    3: [("H", 0.0, 0.0, 0.0), ("F", 0.9168, 0.0, 0.0)],
}


def published(identifier: int) -> list[float]:
    """The nineteen labels in the order of the table, with consistent energies."""
    energies = [round(-100.125 * identifier + 0.25 * place, 6) for place in range(4)]
    first = [round(10.5 * identifier + 0.125 * place, 6) for place in range(10)]
    sums = np.sum([REFERENCES[atom[0]] for atom in GEOMETRIES[identifier]], axis=0)
    return [*first, *energies, 6.5 + identifier, *((energies - sums) * 627.509).tolist()]


def sdf_record(identifier: int) -> str:
    atoms = GEOMETRIES[identifier]
    lines = [f"gdb_{identifier}", "  -OEChem-03231823243D", ""]
    lines += [f"{len(atoms):3d}{len(atoms) - 1:3d}  0     0  0  0  0  0  0999 V2000"]
    zeros = "  0" * 11
    lines += [f"{x:10.4f}{y:10.4f}{z:10.4f} {e:<3} 0{zeros}" for e, x, y, z in atoms]
    lines += [f"  1{other:3d}  1  0  0  0  0" for other in range(2, len(atoms) + 1)]
    return "\n".join([*lines, "M  END", "$$$$", ""])


def csv_table(identifiers: tuple[int, ...]) -> str:
    rows = [",".join(("mol_id", *PUBLISHED_COLUMNS))]
    rows += [",".join([f"gdb_{i}", *map(repr, published(i))]) for i in identifiers]
    return "\n".join([*rows, ""])


def xyz_text(identifier: int) -> str:
    atoms = GEOMETRIES[identifier]
    labels = "\t".join(map(repr, published(identifier)[:15]))
    lines = [str(len(atoms)), f"gdb {identifier}\t{labels}\t"]
    lines += [f"{e}\t{x: .10f}\t{y: .10f}\t{z: .10f}\t-0.123" for e, x, y, z in atoms]
    return "\n".join([*lines, "100.5\t200.25", "O\tO\t", "InChI=1S/H2O\tInChI=1S/H2O", ""])


def write_sdf(folder: pathlib.Path, identifiers: tuple[int, ...] = (1, 2, 3)) -> pathlib.Path:
    path = folder / "gdb9.sdf"
    path.write_text("".join(map(sdf_record, identifiers)))
    (folder / "gdb9.sdf.csv").write_text(csv_table(identifiers))
    return path


def write_zip(folder: pathlib.Path, identifiers: tuple[int, ...] = (1, 2, 3)) -> pathlib.Path:
    path = folder / "qm9.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("gdb9.sdf", "".join(map(sdf_record, identifiers)))
        archive.writestr("gdb9.sdf.csv", csv_table(identifiers))
    return path


def write_tar(folder: pathlib.Path, identifiers: tuple[int, ...] = (1, 2, 3)) -> pathlib.Path:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        for identifier in identifiers:
            member = tarfile.TarInfo(f"dsgdb9nsd_{identifier:06d}.xyz")
            text = xyz_text(identifier).encode()
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text))
    path = folder / "dsgdb9nsd.xyz.tar.bz2"
    path.write_bytes(bz2.compress(content.getvalue()))
    return path


def write_uncharacterized(folder: pathlib.Path, identifiers: tuple[int, ...]) -> pathlib.Path:
    ruler = "=" * 100
    lines = ["", "List of molecules for which", "2 geometries differ.", ruler, "#   Index   SMILES"]
    lines += [ruler, *(f"{i:8d}   C#N   [CH]=N   0   6.036217" for i in identifiers), ruler, ""]
    path = folder / "uncharacterized.txt"
    path.write_text("\n".join(lines))
    return path


def write_npz(path: pathlib.Path, **changes: object) -> pathlib.Path:
    """The compact file, its second molecule uncharacterized; `changes` replace arrays."""
    numbers = {"H": 1, "C": 6, "N": 7, "O": 8, "F": 9}
    atoms = [atom for geometry in GEOMETRIES.values() for atom in geometry]
    arrays = {
        "mol_id": np.array(list(GEOMETRIES)),
        "n_atoms": np.array([len(geometry) for geometry in GEOMETRIES.values()]),
        "z": np.array([numbers[atom[0]] for atom in atoms], np.uint8),
        "pos": np.array([atom[1:] for atom in atoms]),
        "columns": np.array(PUBLISHED_COLUMNS),
        "y": np.array([published(identifier) for identifier in GEOMETRIES]),
        "uncharacterized": np.array([False, True, False]),
    }
    np.savez(path, **{**arrays, **changes})
    return path

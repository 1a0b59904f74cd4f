"""Reader of the embedded aspirin data set; `README.md` beside this file says how it was made."""

from __future__ import annotations

import pathlib

import numpy as np

from equiformer_jax.structure import Structure

ASPIRIN_FILE = pathlib.Path(__file__).with_name("aspirin_gfn2.npz")

# The arrays of the file, M frames of N atoms.
ARRAYS = {
    "atomic_numbers": "N",
    "positions": "MN3",
    "energies": "M",
    "forces": "MN3",
    "times_fs": "M",
    "split": "M",
    "trajectory": "M",
}

# In the order of the numbers in the file's array `split`.
SPLITS = ("train", "validation", "test")


def load_embedded_aspirin(path: str | pathlib.Path = ASPIRIN_FILE) -> dict[str, list[Structure]]:
    """Aspirin at 500 K with the energies and forces of GFN2-xTB, the data set of the quickstart.

    The splits are blocks of several independent trajectories, with unused time between the blocks,
    so that no frame to test on is a neighbor of one to train on. Frames are in order of time.

    Args:
        path: the file to read, if not the embedded one: another output of
            `experiments.generate_aspirin`.

    Returns:
        The structures of "train", "validation" and "test", of 21 atoms each: positions in Å, total
        energies in eV (about -1077, nothing subtracted), forces in eV/Å; `properties` holds
        `trajectory` and `time_fs`, in a time that runs through all trajectories, one after another.

    Raises:
        FileNotFoundError: the file is not there.
        ValueError: the file lacks an array, or one has another shape or values than expected.
    """
    arrays = _read_arrays(pathlib.Path(path))
    splits: dict[str, list[Structure]] = {name: [] for name in SPLITS}
    for index, split in enumerate(arrays["split"]):
        try:
            structure = _structure(arrays, index)
        except ValueError as error:
            raise ValueError(f"{path}: frame {index}: {error}") from error
        splits[SPLITS[split]].append(structure)
    return splits


def _structure(arrays: dict[str, np.ndarray], index: int) -> Structure:
    return Structure(
        positions=arrays["positions"][index],
        atomic_numbers=arrays["atomic_numbers"],
        energy=arrays["energies"][index],
        forces=arrays["forces"][index],
        properties={
            "trajectory": int(arrays["trajectory"][index]),
            "time_fs": float(arrays["times_fs"][index]),
        },
    )


def _read_arrays(path: pathlib.Path) -> dict[str, np.ndarray]:
    """All arrays of the file, their names and shapes checked."""
    with np.load(path, allow_pickle=False) as file:
        arrays = dict(file)
    missing = [name for name in ARRAYS if name not in arrays]
    if missing:
        raise ValueError(f"{path}: the arrays {missing} are missing")
    sizes = {"M": arrays["split"].size, "N": arrays["atomic_numbers"].size, "3": 3}
    for name, dimensions in ARRAYS.items():
        shape = tuple(sizes[dimension] for dimension in dimensions)
        if arrays[name].shape != shape:
            raise ValueError(f"{path}: '{name}': expected shape {shape}, got {arrays[name].shape}")
    if not np.isin(arrays["split"], range(len(SPLITS))).all():
        raise ValueError(f"{path}: 'split': expected 0, 1 or 2 for {SPLITS}")
    return arrays

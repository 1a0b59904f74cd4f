"""The statistics of the aspirin data set, and the README that carries them.

How far apart frames must be is read from the autocorrelation of three observables along the
trajectories: the potential energy, the distances between atoms (all 210, their covariances
summed: positions without translation and rotation), and the direction (as a unit vector in the
plane) of the slowest torsion.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import platform
from collections.abc import Sequence

import numpy as np

from experiments.aspirin import dynamics, molecule

LAGS_FS = (10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0)


def autocorrelation(series: Sequence[np.ndarray]) -> np.ndarray:
    """Normalized autocorrelation of an observable along several trajectories.

    With the mean over all trajectories, so that a trajectory which stays on one side shows as
    correlation instead of hiding in a mean of its own.

    Args:
        series: one array [T, D] for each trajectory, T the same for all.

    Returns:
        [T // 2]: the sum over D of the covariances at each lag, divided by that at lag 0.
    """
    stacked = np.stack([np.asarray(values, np.float64) for values in series])
    stacked -= stacked.mean(axis=(0, 1))
    length = stacked.shape[1]
    # Twice the length: the Fourier transform's correlation is cyclic, the zeros keep ends apart.
    spectrum = np.fft.rfft(stacked, 2 * length, axis=1)
    products = np.fft.irfft(np.abs(spectrum) ** 2, axis=1)[:, : length // 2].sum(axis=(0, 2))
    covariance = products / np.arange(length, length - length // 2, -1)
    return covariance / covariance[0]


def integrated_time(correlation: np.ndarray, spacing_fs: float) -> float:
    """The integral of an autocorrelation up to its first zero, in fs (trapezoidal rule)."""
    negative = np.flatnonzero(correlation <= 0.0)
    positive_part = correlation[: negative[0]] if len(negative) else correlation
    return spacing_fs * float(positive_part.sum() - 0.5)


def dihedral_directions(positions: np.ndarray, atoms: tuple[int, int, int, int]) -> np.ndarray:
    """Cosine and sine [T, 2] of the dihedral angle of four atoms in positions [T, N, 3]."""
    first, second, third, fourth = (positions[:, atom].astype(np.float64) for atom in atoms)
    axis = third - second
    axis /= np.linalg.norm(axis, axis=-1, keepdims=True)
    before, after = np.cross(axis, first - second), np.cross(axis, fourth - third)
    cosine = np.sum(before * after, axis=-1)
    sine = np.sum(np.cross(before, after) * axis, axis=-1)
    return np.stack([cosine, sine], axis=-1) / np.hypot(cosine, sine)[:, None]


def pair_distances(positions: np.ndarray) -> np.ndarray:
    """The distances [T, N (N - 1) / 2] between all atoms in positions [T, N, 3]."""
    firsts, seconds = np.triu_indices(positions.shape[1], k=1)
    return np.linalg.norm(positions[:, firsts] - positions[:, seconds], axis=-1)


def readme(
    file_name: str,
    arrays: dict[str, np.ndarray],
    protocol: dynamics.Protocol,
    runs: Sequence[dynamics.Trajectory],
) -> str:
    """The text of the README beside the data.

    Args:
        file_name: of the npz file.
        arrays: what it holds.
        protocol: how it was made.
        runs: all trajectories, for the autocorrelation.
    """
    versions = ", ".join(
        f"{package} {importlib.metadata.version(package)}" for package in ("tblite", "ase", "numpy")
    )
    return _TEMPLATE.format(
        file_name=file_name,
        method=molecule.METHOD,
        versions=f"{versions}, Python {platform.python_version()}",
        command=_command(protocol),
        total=len(arrays["split"]),
        length_ps=protocol.trajectory_steps() * protocol.timestep_fs / 1000.0,
        equilibration_ps=protocol.equilibration_fs / 1000.0,
        gap_ps=protocol.gap_fs / 1000.0,
        train=protocol.frames[0],
        validation=protocol.frames[1],
        test=protocol.frames[2],
        seed=protocol.seed,
        trajectories=protocol.trajectories,
        temperature=protocol.temperature_kelvin,
        friction=protocol.friction_per_fs,
        timestep=protocol.timestep_fs,
        spacing=protocol.spacing_fs,
        torsion=", ".join(map(str, molecule.RING_TO_ESTER_DIHEDRAL)),
        label_statistics=_label_statistics(arrays),
        correlations=_correlation_table(runs),
    )


def _command(protocol: dynamics.Protocol) -> str:
    options = dataclasses.asdict(protocol)
    options["frames"] = ",".join(str(frames) for frames in protocol.frames)
    lines = [f"    --{name}={value}" for name, value in options.items()]
    return " \\\n".join(["OMP_NUM_THREADS=1 python -m experiments.generate_aspirin", *lines])


def _label_statistics(arrays: dict[str, np.ndarray]) -> str:
    """A Markdown table, one row for each split and one for all."""
    rows = [
        "| split | frames | mean energy (eV) | energy std (eV) | force RMS (eV/Å) "
        "| mean abs. force component (eV/Å) | largest force component (eV/Å) |",
        "|---|---|---|---|---|---|---|",
    ]
    masks = {name: arrays["split"] == index for index, name in enumerate(dynamics.SPLITS)}
    masks["all"] = np.ones(len(arrays["split"]), bool)
    for name, mask in masks.items():
        energies, forces = arrays["energies"][mask], arrays["forces"][mask].astype(np.float64)
        rows.append(
            f"| {name} | {mask.sum()} | {energies.mean():.4f} | {energies.std():.4f} "
            f"| {np.sqrt(np.mean(forces**2)):.4f} | {np.abs(forces).mean():.4f} "
            f"| {np.abs(forces).max():.2f} |"
        )
    return "\n".join(rows)


def _correlation_table(runs: Sequence[dynamics.Trajectory]) -> str:
    """A Markdown table: the autocorrelations at `LAGS_FS` and their integrals."""
    torsion = molecule.RING_TO_ESTER_DIHEDRAL
    positions = [run.recorded_positions for run in runs]
    observables = {
        "energy": [run.recorded_energies[:, None] for run in runs],
        "distances": [pair_distances(values) for values in positions],
        "torsion": [dihedral_directions(values, torsion) for values in positions],
    }
    lags = [round(lag / dynamics.RECORD_EVERY_FS) for lag in LAGS_FS]
    rows = [
        "| observable | " + " | ".join(f"{lag:g} fs" for lag in LAGS_FS) + " | integral |",
        "|---" * (len(lags) + 2) + "|",
    ]
    for name, series in observables.items():
        correlation = autocorrelation(series)
        values = [f"{correlation[lag]:.2f}" if lag < len(correlation) else "" for lag in lags]
        integral = integrated_time(correlation, dynamics.RECORD_EVERY_FS)
        rows.append(f"| {name} | {' | '.join(values)} | {integral:.0f} fs |")
    return "\n".join(rows)


_TEMPLATE = """\
# {file_name}: aspirin at {temperature:g} K, {method}

{total} geometries of one aspirin molecule (C9H8O4, 21 atoms, in vacuum) with energies and forces.
This text and the data were written together by `experiments/generate_aspirin.py`.

**Licence of the data: CC0 1.0** (public domain dedication). No other data set went into it.

## What it holds

| array | type and shape | |
|---|---|---|
| `atomic_numbers` | int32 [21] | |
| `positions` | float32 [M, 21, 3] | Å, about the center of mass |
| `energies` | float64 [M] | eV, total energy, nothing subtracted |
| `forces` | float32 [M, 21, 3] | eV/Å |
| `times_fs` | float64 [M] | fs, all trajectories laid end to end |
| `split` | int8 [M] | 0 train, 1 validation, 2 test |
| `trajectory` | int8 [M] | which of the independent trajectories |

Labels were computed at exactly these float32 positions, each in a calculation of its own.

## How it was made

* Energies and forces: {method} with tblite, neutral singlet, electronic temperature 300 K (tblite's
  default), `accuracy` 1 along the trajectory and 0.01 for the labels.
* Start: a rough geometry relaxed with the same method.
* Dynamics: ASE's Langevin thermostat at {temperature:g} K with a friction of {friction:g} per fs
  and a step of {timestep:g} fs; classical nuclei, no constraints.
* Independent trajectories: {trajectories} of {length_ps:.1f} ps, seed {seed}. Velocities and
  thermostat of trajectory k draw from NumPy's `default_rng([seed, k])`. The first
  {equilibration_ps:g} ps of each are thrown away.
* A frame every {spacing:g} fs. Each trajectory gives a block of {train} frames to train, then
  {validation} to validation, then {test} to test, with {gap_ps:g} ps of unused time between them.
* Every frame has the 21 bonds of aspirin and no other: checked when it was made and in the tests.
* Made with {versions}.

```
{command}
```

## Statistics

{label_statistics}

Autocorrelation along the trajectories after the equilibration, at some lags and integrated up to
the first zero. Frames are {spacing:g} fs apart, blocks of different splits at least {gap_ps:g} ps;
every split draws from all trajectories.

{correlations}

Energy: the potential energy. Distances: all 210 between two atoms, that is the positions without
translation and rotation. Torsion: of the bond from the ring to the ester (atoms {torsion}).

What is still correlated after the time of the gap, as a slow torsion may be, a test block remembers
from the training block before it: the test split asks for new vibrations of conformers that were
trained on, not for conformers that were never seen.
"""

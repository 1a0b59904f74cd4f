"""Thermostatted trajectories of aspirin, and which of their frames are saved.

A trajectory is

    equilibration | train block | gap | validation block | gap | test block

and only frames of the blocks are saved. All trajectories start from the same relaxed molecule, with
velocities and a thermostat of their own random numbers.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np
from absl import logging
from ase import Atoms, units
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import thermalize_momenta

from experiments.aspirin import molecule

SPLITS = ("train", "validation", "test")

# Time between the records from which the autocorrelation is computed.
RECORD_EVERY_FS = 5.0


@dataclasses.dataclass(frozen=True)
class Protocol:
    """How the frames are made; `frames` are those of the three blocks of one trajectory."""

    seed: int
    trajectories: int
    temperature_kelvin: float
    timestep_fs: float
    friction_per_fs: float
    spacing_fs: float
    equilibration_fs: float
    gap_fs: float
    frames: tuple[int, int, int]

    def steps(self, time_fs: float) -> int:
        """The number of integration steps in a time; a `ValueError` if it is not a whole one."""
        steps = round(time_fs / self.timestep_fs)
        if not np.isclose(steps * self.timestep_fs, time_fs):
            raise ValueError(f"{time_fs} fs is not a whole number of {self.timestep_fs} fs steps")
        return steps

    def schedule(self) -> dict[int, int]:
        """The steps of a trajectory that are saved, each with the index of its split."""
        saved: dict[int, int] = {}
        block_start = self.steps(self.equilibration_fs)
        for split, frames in enumerate(self.frames):
            for frame in range(frames):
                saved[block_start + frame * self.steps(self.spacing_fs)] = split
            block_start += frames * self.steps(self.spacing_fs) + self.steps(self.gap_fs)
        return saved

    def trajectory_steps(self) -> int:
        """The length of a trajectory in steps: up to its last saved frame."""
        return max(self.schedule())

    def trajectory_start_fs(self, trajectory: int) -> float:
        """When a trajectory begins if all are laid end to end, with a gap between two."""
        return trajectory * (self.trajectory_steps() * self.timestep_fs + self.gap_fs)


@dataclasses.dataclass(frozen=True)
class Trajectory:
    """One finished trajectory.

    Attributes:
        frames: what is saved: `positions` float32 [F, 21, 3], `energies` float64 [F], `forces`
            float32 [F, 21, 3], `times_fs` float64 [F], `split` and `trajectory` int8 [F].
        recorded_energies: [R], eV, one every `RECORD_EVERY_FS` after the equilibration.
        recorded_positions: [R, 21, 3], Å, at the same times.
    """

    frames: dict[str, np.ndarray]
    recorded_energies: np.ndarray
    recorded_positions: np.ndarray


def run_trajectory(start: Atoms, protocol: Protocol, index: int) -> Trajectory:
    """Runs trajectory number `index`; its frames are labelled, checked and ready to be saved.

    Raises:
        RuntimeError: a label is not finite, or the molecule is no longer aspirin.
    """
    schedule = protocol.schedule()
    record_every = protocol.steps(RECORD_EVERY_FS)
    frames, recorded_energies, recorded_positions = [], [], []
    for step, atoms in _integrate(start, protocol, index):
        if step >= min(schedule) and step % record_every == 0:
            recorded_energies.append(atoms.get_potential_energy())
            recorded_positions.append(atoms.positions.astype(np.float32))
        if step in schedule:
            time_fs = step * protocol.timestep_fs
            frame = _labelled_frame(atoms, where=f"trajectory {index}, {time_fs} fs")
            frame["times_fs"] = np.float64(protocol.trajectory_start_fs(index) + time_fs)
            frame["split"] = np.int8(schedule[step])
            frame["trajectory"] = np.int8(index)
            frames.append(frame)
        if step % protocol.steps(1000.0) == 0:
            logging.info(
                "trajectory %d of %d: %d of %d steps, %d frames",
                *(index + 1, protocol.trajectories),
                *(step, protocol.trajectory_steps(), len(frames)),
            )
    columns = {name: np.stack([frame[name] for frame in frames]) for name in frames[0]}
    return Trajectory(columns, np.array(recorded_energies), np.array(recorded_positions))


def _integrate(start: Atoms, protocol: Protocol, index: int) -> Iterator[tuple[int, Atoms]]:
    """Yields the step and the moving atoms, the start as step 0 included."""
    generator = np.random.default_rng([protocol.seed, index])
    atoms = start.copy()
    atoms.calc = molecule.gfn2_calculator()
    thermalize_momenta(atoms, protocol.temperature_kelvin, rng=generator)
    integrator = Langevin(
        atoms,
        protocol.timestep_fs * units.fs,
        temperature_K=protocol.temperature_kelvin,
        friction=protocol.friction_per_fs / units.fs,
        # Holding the center of mass heats so small a molecule by ten per cent. It may drift:
        # it is taken out of what is saved.
        fixcm=False,
        rng=generator,
    )
    for step, _ in enumerate(integrator.irun(protocol.trajectory_steps())):
        yield step, atoms


def _labelled_frame(atoms: Atoms, where: str) -> dict[str, np.generic | np.ndarray]:
    """Positions about the center of mass, rounded to float32, with the labels of just these."""
    positions = (atoms.positions - atoms.get_center_of_mass()).astype(np.float32)
    molecule.check_molecule(atoms.numbers, positions, where)
    energy, forces = molecule.label(atoms.numbers, positions.astype(np.float64))
    if not (np.isfinite(energy) and np.all(np.isfinite(forces))):
        raise RuntimeError(f"{where}: {molecule.METHOD} gave a label that is not finite")
    return {
        "positions": positions,
        "energies": np.float64(energy),
        "forces": forces.astype(np.float32),
    }

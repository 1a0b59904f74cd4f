"""Makes the embedded data set: aspirin at 500 K with the energies and forces of GFN2-xTB.

    pip install -e '.[data-generation]'
    OMP_NUM_THREADS=1 python -m experiments.generate_aspirin

writes `aspirin_gfn2.npz` and a `README.md` with its statistics into the package. It takes about an
hour on one core; `--frames=20,5,5 --trajectories=1 --output=FOLDER/try.npz` takes a few minutes.
The same seed gives the same file as long as the versions named in that README are the same.
"""

from __future__ import annotations

import os
import pathlib
import tempfile
from collections.abc import Mapping
from typing import Any

import numpy as np
from absl import app, flags, logging

from experiments.aspirin import dynamics, molecule, report

DEFAULT_OUTPUT = (
    pathlib.Path(__file__).resolve().parents[1] / "equiformer_jax/data/embedded/aspirin_gfn2.npz"
)

_OUTPUT = flags.DEFINE_string("output", str(DEFAULT_OUTPUT), "The npz file to write.")
_SEED = flags.DEFINE_integer("seed", 0, "Seed of all random numbers.", lower_bound=0)
_TRAJECTORIES = flags.DEFINE_integer("trajectories", 5, "Independent runs.", 1, 100)
_TEMPERATURE = flags.DEFINE_float("temperature_kelvin", 500.0, "Of the thermostat.")
_TIMESTEP = flags.DEFINE_float("timestep_fs", 0.5, "Integration step.")
_FRICTION = flags.DEFINE_float("friction_per_fs", 0.01, "Of the Langevin thermostat.")
_SPACING = flags.DEFINE_float("spacing_fs", 100.0, "Time between saved frames.")
_EQUILIBRATION = flags.DEFINE_float("equilibration_fs", 5000.0, "Thrown away from each run.")
_GAP = flags.DEFINE_float("gap_fs", 2000.0, "Unused time between two blocks of a run.")
_FRAMES = flags.DEFINE_list(
    "frames", ["175", "25", "50"], "Frames of a run's train, validation and test block."
)


def save_atomically(path: pathlib.Path, arrays: Mapping[str, Any]) -> None:
    """Writes a compressed npz: whoever opens `path` finds the old file or the whole new one.

    Raises:
        ValueError: an array holds a value that is not finite; nothing is written then.
    """
    for name, array in arrays.items():
        if not np.all(np.isfinite(array)):
            raise ValueError(f"{path}: '{name}' holds values that are not finite")
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, suffix=".partial")
    try:
        with os.fdopen(descriptor, "wb") as file:
            np.savez_compressed(file, **arrays)
            os.fchmod(file.fileno(), 0o644)
        os.replace(temporary, path)
    except BaseException:
        pathlib.Path(temporary).unlink()
        raise


def _protocol_from_flags() -> dynamics.Protocol:
    if len(_FRAMES.value) != len(dynamics.SPLITS):
        raise app.UsageError(f"--frames: one number for each of {dynamics.SPLITS} was expected")
    try:
        train, validation, test = (int(frames) for frames in _FRAMES.value)
    except ValueError as error:
        raise app.UsageError(f"--frames: whole numbers were expected: {error}") from error
    return dynamics.Protocol(
        seed=_SEED.value,
        trajectories=_TRAJECTORIES.value,
        temperature_kelvin=_TEMPERATURE.value,
        timestep_fs=_TIMESTEP.value,
        friction_per_fs=_FRICTION.value,
        spacing_fs=_SPACING.value,
        equilibration_fs=_EQUILIBRATION.value,
        gap_fs=_GAP.value,
        frames=(train, validation, test),
    )


def main(arguments: list[str]) -> None:
    """Runs all trajectories, then writes the data and the README beside it."""
    if len(arguments) > 1:
        raise app.UsageError(f"unexpected arguments: {arguments[1:]}")
    protocol = _protocol_from_flags()
    output = pathlib.Path(_OUTPUT.value)
    output.parent.mkdir(parents=True, exist_ok=True)

    start = molecule.relaxed_aspirin()
    logging.info("relaxed: %.6f eV", start.get_potential_energy())
    runs = [
        dynamics.run_trajectory(start, protocol, index) for index in range(protocol.trajectories)
    ]

    arrays = {"atomic_numbers": start.numbers.astype(np.int32)}
    for name in runs[0].frames:
        arrays[name] = np.concatenate([run.frames[name] for run in runs])
    save_atomically(output, arrays)
    text = report.readme(output.name, arrays, protocol, runs)
    (output.parent / "README.md").write_text(text, encoding="utf-8")
    logging.info("%s: %d frames, %d bytes", output, len(arrays["split"]), output.stat().st_size)


if __name__ == "__main__":
    app.run(main)

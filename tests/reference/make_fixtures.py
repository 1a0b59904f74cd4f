"""Makes the project's own fixtures: `python -m tests.reference.make_fixtures [name ...]`.

Each file holds random parameters, random inputs and what the NumPy reference makes of them in
float64 (see `tests/fixtures/README.md`). Nothing in it comes from the package under test.
"""

from __future__ import annotations

import json
import pathlib
import sys
import zlib

import numpy as np

from tests.reference import derivatives
from tests.reference.directions import DIRECTIONS, parameter_direction
from tests.reference.fixture_cases import CASES, Case
from tests.reference.fixture_files import model_config, model_inputs
from tests.reference.make_inputs import random_batch
from tests.reference.model import Inputs, ModelConfig, forward
from tests.reference.parameters import Scope

Arrays = dict[str, np.ndarray]

FOLDER = pathlib.Path(__file__).resolve().parents[1] / "fixtures"
LARGEST_ERROR = 1e-9
VECTOR_OUTPUTS = {"displacement": "aux", "denoising": "denoising"}


def make_fixture(case: Case) -> tuple[dict, Arrays]:
    """The meta data and all arrays of one file.

    Raises:
      ArithmeticError: two ways to a derivative differ by more than `LARGEST_ERROR`.
    """
    seed = zlib.crc32(case.name.encode())
    generator = np.random.default_rng(seed)
    meta = _meta(case, seed)
    config = model_config(meta)
    arrays = random_batch(case, generator)
    inputs = model_inputs(arrays)
    parameters: Arrays = {}
    outputs = forward(config, Scope(parameters, generator), inputs)

    forces = derivatives.forces(config, parameters, inputs)
    results = {"out/energy": outputs["energy"][:, None], "out/forces": forces}
    for name, stored in VECTOR_OUTPUTS.items():
        if name in outputs:
            results[f"out/{stored}"] = outputs[name]
    results |= _slopes(config, parameters, inputs, outputs, forces)
    meta["forces_error"] = _forces_error(config, parameters, inputs, forces)
    meta["slopes_error"] = float(results.pop("slope_error").max())
    worst = max(meta["forces_error"], meta["slopes_error"])
    if worst > LARGEST_ERROR:
        raise ArithmeticError(f"{case.name}: derivatives are only good to {worst:.1e}")
    results |= {f"in/{name}": value for name, value in arrays.items()}
    results |= {f"param/{name}": value for name, value in parameters.items()}
    return meta, results


def _meta(case: Case, seed: int) -> dict:
    dot_product = case.fields["attention"] == "dot_product"
    meta = {
        "preset": case.preset,
        "config_fields": sorted(case.fields),
        **case.fields,
        "dataset": case.dataset,
        "cls": "DotProductAttentionTransformer" if dot_product else "GraphAttentionTransformer",
        "seed": seed,
        "made_by": "tests/reference/make_fixtures.py",
    }
    if case.max_neighbors is not None:
        meta["max_neighbors"] = case.max_neighbors
    return meta


def _slopes(
    config: ModelConfig, parameters: Arrays, inputs: Inputs, outputs: Arrays, forces: np.ndarray
) -> Arrays:
    """Slopes of half the mean squares of the outputs along the parameter directions.

    Returns:
      `slope/energy`, `slope/forces` and, with such a head, `slope/aux` or `slope/denoising`,
      `[DIRECTIONS]` each; and `slope_error`, how much the force slopes change at half the step,
      relative to the largest of them.
    """
    shapes = {name: value.shape for name, value in parameters.items()}
    rows: dict[str, list[float]] = {}
    for index in range(DIRECTIONS):
        direction = parameter_direction(shapes, index)
        slopes = derivatives.output_slopes(config, parameters, inputs, direction)
        energy_slope = (outputs["energy"] * slopes["energy"]).mean()
        rows.setdefault("slope/energy", []).append(energy_slope)
        for name, stored in VECTOR_OUTPUTS.items():
            if name in outputs:
                slope = (outputs[name] * slopes[name]).sum(-1).mean()
                rows.setdefault(f"slope/{stored}", []).append(slope)
        along = forces / len(forces)
        step = derivatives.DIFFERENCE_STEP
        slope, finer = (
            derivatives.force_slope(config, parameters, inputs, direction, along, size)
            for size in (step, step / 2)
        )
        rows.setdefault("slope/forces", []).append(slope)
        rows.setdefault("slope_error", []).append(abs(slope - finer))
    result = {name: np.array(values) for name, values in rows.items()}
    result["slope_error"] /= np.abs(result["slope/forces"]).max()
    return result


def _forces_error(
    config: ModelConfig, parameters: Arrays, inputs: Inputs, forces: np.ndarray
) -> float:
    """Largest difference from central differences of the energy, relative to the largest force."""
    worst = 0.0
    for index in np.ndindex(*forces.shape):
        direction = np.zeros(forces.shape)
        direction[index] = 1.0

        def energy(distance: float, direction: np.ndarray = direction) -> np.ndarray:
            moved = derivatives.displaced(inputs, distance * direction)
            return derivatives.outputs(config, parameters, moved)["energy"].sum()

        slope = derivatives.sixth_order_difference(energy, derivatives.DIFFERENCE_STEP)
        worst = max(worst, abs(forces[index] + slope))
    return float(worst / np.abs(forces).max())


def main(names: list[str]) -> None:
    """Write the named fixtures, or all."""
    FOLDER.mkdir(exist_ok=True)
    for case in CASES:
        if names and case.name not in names:
            continue
        meta, arrays = make_fixture(case)
        path = FOLDER / f"{case.name}.npz"
        np.savez_compressed(path, meta=np.array(json.dumps(meta)), **arrays)
        print(
            f"{path.name}: {path.stat().st_size / 1000:.0f} kB, energies "
            f"{np.round(arrays['out/energy'].ravel(), 3)}, largest force "
            f"{np.abs(arrays['out/forces']).max():.2f}, slopes {arrays['slope/forces'].round(3)}, "
            f"errors {meta['forces_error']:.0e} {meta['slopes_error']:.0e}",
            flush=True,
        )


if __name__ == "__main__":
    main(sys.argv[1:])

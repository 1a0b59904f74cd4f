"""Times training steps and force evaluations of the published models on this machine.

    python -m experiments.benchmark --case=md17_l2_aspirin --output=result.json

A step is timed in turn with a float32 product of 2048 x 2048 matrices, and the ratio of the medians
is what to quote: machines differ, and are noisy. Compilation is timed cold, without the persistent
cache.
"""

from __future__ import annotations

import dataclasses
import json
import platform
import resource
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import jraph
import numpy as np
from absl import app, flags

from equiformer_jax.data import batching
from equiformer_jax.data.embedded.aspirin import load_embedded_aspirin
from equiformer_jax.data.graph_building import build_graph_store
from equiformer_jax.data.graph_packing import pack_parts
from equiformer_jax.data.statistics import compute_statistics
from equiformer_jax.models.equiformer import Equiformer
from equiformer_jax.models.presets import get_preset
from equiformer_jax.training.objectives import EnergyForceObjective
from equiformer_jax.training.optimizer import make_optimizer
from equiformer_jax.training.sharding import make_data_mesh, place_batch, replicate
from equiformer_jax.training.state import create_train_state
from equiformer_jax.training.step import make_evaluation_step, make_predict, make_train_step
from experiments.common import program
from experiments.devices import use_all_cores

MATRIX_SIZE = 2048


@dataclasses.dataclass(frozen=True)
class Case:
    """One thing to time, on the embedded aspirin frames.

    Attributes:
      preset: the model.
      batch_size: molecules in a step, over all devices.
      trains: a full training step (energy, forces, AdamW), else energy and forces alone.
    """

    preset: str
    batch_size: int
    trains: bool = True


CASES = {
    "md17_l2_aspirin": Case("md17_l2", 8),
    "md17_l2_aspirin_batch_1": Case("md17_l2", 1),
    "md17_l2_aspirin_forces": Case("md17_l2", 8, trains=False),
    "md17_l2_linear_aspirin": Case("md17_l2_linear", 8),
    "md17_l2_dot_product_aspirin": Case("md17_l2_dot_product", 8),
    "md17_l3_aspirin": Case("md17_l3", 8),
}

_CASE = flags.DEFINE_enum("case", "md17_l2_aspirin", sorted(CASES), "What to time.")
_STEPS = flags.DEFINE_integer("steps", 7, "Timed steps, after one that is not counted.", 1)
_OUTPUT = flags.DEFINE_string("output", None, "JSON file to write.")


@program
def main(arguments: Sequence[str]) -> None:
    """Times one case and prints the result."""
    if len(arguments) > 1:
        raise app.UsageError(f"unknown arguments {arguments[1:]}")
    case = CASES[_CASE.value]
    use_all_cores(case.batch_size)
    result = {"case": _CASE.value, **run_case(case, _STEPS.value)}
    width = max(map(len, result))
    for name, value in result.items():
        print(
            f"{name:{width}}  {value:.4g}"
            if isinstance(value, float)
            else f"{name:{width}}  {value}"
        )
    if _OUTPUT.value:
        with open(_OUTPUT.value, "w", encoding="utf-8") as file:
            json.dump(result, file, indent=2)


def run_case(case: Case, steps: int) -> dict[str, Any]:
    """Compiles and times a case.

    Args:
      case: what to time.
      steps: how many steps to time.

    Returns:
      Names to numbers and strings; times in seconds.
    """
    jax.config.update("jax_enable_compilation_cache", False)
    function, arguments, batch = build(case)
    start = time.perf_counter()
    program = function.lower(*arguments).compile()
    compile_seconds = time.perf_counter() - start
    step_times, matrix_times = _time_in_turn(program, arguments, case.trains, steps)
    step, matrix = float(np.median(step_times)), float(np.median(matrix_times))
    memory = program.memory_analysis()
    return {
        "device": f"{jax.device_count()} x {jax.devices()[0].device_kind}, {platform.machine()}",
        "jax": jax.__version__,
        "edges": int(np.sum(batch.n_edge)),
        "compile_seconds": compile_seconds,
        "step_over_matrix_product": step / matrix,
        "step_seconds": step,
        "step_seconds_range": [float(min(step_times)), float(max(step_times))],
        "matrix_product_seconds": matrix,
        "matrix_product_gflops_per_second": 2 * MATRIX_SIZE**3 / matrix / 1e9,
        "structures_per_second": case.batch_size / step,
        "temporary_mib_per_device": memory.temp_size_in_bytes / 2**20 if memory else None,
        "peak_process_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10,
    }


def build(case: Case) -> tuple[Any, tuple[Any, ...], jraph.GraphsTuple]:
    """The jitted function of a case, its arguments, and the batch."""
    config = get_preset(case.preset)
    structures = load_embedded_aspirin()["train"][: max(case.batch_size, 2)]
    source = build_graph_store(structures, config.max_radius)
    statistics = compute_statistics(source)
    source = source.relative_to(statistics.energy_mean)

    mesh = make_data_mesh()
    parts = batching.split_over_devices(np.arange(case.batch_size), source.sizes, mesh.size)
    budget = batching.budget_for([parts], source.sizes)
    batch = pack_parts(source, parts, budget)
    model = Equiformer(config)
    first = jax.tree.map(lambda leaf: leaf[0], batch)
    params = jax.jit(model.init)(jax.random.key(0), first)["params"]
    objective = EnergyForceObjective(statistics.energy_std, 1.0, 80.0, "l2")
    predict = make_predict(model, needs_forces=True)
    placed = place_batch(batch, mesh)
    if not case.trains:
        step = make_evaluation_step(predict, objective, mesh)
        return step, (replicate(params, mesh), placed), batch
    optimizer = make_optimizer(5e-4, 1e-6)
    state = replicate(create_train_state(params, optimizer, jax.random.key(1)), mesh)
    return make_train_step(predict, optimizer, objective, mesh), (state, placed), batch


def _time_in_turn(
    program: Callable[..., Any], arguments: tuple[Any, ...], trains: bool, steps: int
) -> tuple[list[float], list[float]]:
    """Times the program and a matrix product alternately; the first round is not counted."""
    matrix = jnp.ones((MATRIX_SIZE, MATRIX_SIZE), jnp.float32)
    multiply = jax.jit(lambda a: a @ a)
    carried, batch = arguments
    step_times, matrix_times = [], []
    for _ in range(steps + 1):
        start = time.perf_counter()
        result = jax.block_until_ready(program(carried, batch))
        step_times.append(time.perf_counter() - start)
        if trains:
            carried = result[0]  # the given state was donated
        start = time.perf_counter()
        jax.block_until_ready(multiply(matrix))
        matrix_times.append(time.perf_counter() - start)
    return step_times[1:], matrix_times[1:]


if __name__ == "__main__":
    app.run(main)

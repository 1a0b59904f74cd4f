"""Compiles the step of a configuration for a topology, and finds out all about it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from ml_collections import config_dict

from equiformer_jax.training.mesh_settings import MeshSettings
from experiments.tpu import report
from experiments.tpu.abstract_step import AbstractStep, build_step
from experiments.tpu.checks import check_collectives, check_program, check_traced
from experiments.tpu.chips import Topology, find_topology
from experiments.tpu.compiling import Compiled, TooLarge, compile_step
from experiments.tpu.costs import count_costs
from experiments.tpu.hlo import parse_program
from experiments.tpu.largest_batch import Trial, find_largest_batch
from experiments.tpu.roofline import roofline
from experiments.tpu.sizes import StructureSize, typical_size

_FLOAT32_BYTES = 4


class Task(NamedTuple):
    """What to compile, and what for.

    Attributes:
      config: as for a training.
      topology: the chips.
      size: of a structure.
      say: prints a line.
      quick: whether the compiler may stop early (`compiling.compile_step`).
    """

    config: config_dict.ConfigDict
    topology: Topology
    size: StructureSize
    say: Callable[[str], None]
    quick: bool = False

    def attempt(self, structures: int | None = None) -> tuple[AbstractStep, Compiled | TooLarge]:
        """Compiles a step with so many structures on a chip at a time, or as configured."""
        step = build_step(self.config, self.topology, self.size, structures)
        self.say(f"compiling the step with {step.structures} structures on a chip at a time ...")
        return step, compile_step(step, self.quick)


def make_task(
    config: config_dict.ConfigDict,
    topology: str,
    say: Callable[[str], None],
    atoms: int | None = None,
    edges: int | None = None,
    quick: bool = False,
) -> Task:
    """Finds chips and sizes.

    Args:
      config: as for a training.
      topology: its name, such as `v5e:2x4`.
      say: prints a line.
      atoms: of a structure; what is typical of the data set if `None`.
      edges: likewise.
      quick: whether the compiler may stop early.

    Raises:
      TopologyError: there is no such topology, or no libtpu.
      ValueError: the size of the structures is unknown.
    """
    size = typical_size(config.data, atoms, edges)
    return Task(config, find_topology(topology), size, say, quick)


def examine(task: Task, name: str, overrides: Mapping[str, Any]) -> report.Report:
    """Compiles a step and reads the program.

    Args:
      task: what to compile.
      name: of the configuration, for the report.
      overrides: fields that were changed, for the report.

    Raises:
      ValueError: the configuration does not fit, or a loop of the program cannot be read.
    """
    step, found = task.attempt()
    described = report.describe_task(
        name, overrides, task.topology, task.size, step, task.config.training.batch_size
    )
    described["quick"] = task.quick
    if isinstance(found, TooLarge):
        return described | report.describe_excess(found)
    return described | _read(task, step, found)


def search_largest(task: Task, first: report.Report) -> report.Report:
    """Compiles further sizes to find the largest batch.

    Args:
      task: as before.
      first: from `examine`.

    Returns:
      What to add to that report.
    """
    fits = first["fits"]
    known = first["memory_bytes"]["total"] if fits else first["needed_bytes"]
    largest = find_largest_batch(
        lambda structures: task.attempt(structures)[1],
        Trial(first["structures_at_a_time"], known, fits),
        task.topology.chip.usable_bytes,
    )
    return report.describe_largest(largest)


def _read(task: Task, step: AbstractStep, compiled: Compiled) -> report.Report:
    program = parse_program(compiled.text)
    costs = count_costs(program, len(task.topology.devices))
    settings = MeshSettings.from_settings(task.config.get("mesh"))
    problems = [
        *check_traced(step.trace().jaxpr),
        *check_program(program),
        *check_collectives(costs.collectives, _FLOAT32_BYTES * step.parameters, settings),
    ]
    return report.describe_program(compiled, costs, roofline(costs, task.topology.chip), problems)

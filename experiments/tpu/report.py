"""What was found out about a step, as JSON and as text."""

from __future__ import annotations

import dataclasses
import importlib.metadata
from collections.abc import Mapping, Sequence
from typing import Any

from experiments.tpu.abstract_step import AbstractStep
from experiments.tpu.chips import GIB, Topology
from experiments.tpu.compiling import Compiled, TooLarge
from experiments.tpu.costs import Costs
from experiments.tpu.largest_batch import LargestBatch
from experiments.tpu.roofline import Roofline
from experiments.tpu.sizes import StructureSize

Report = dict[str, Any]


def describe_task(
    name: str,
    overrides: Mapping[str, Any],
    topology: Topology,
    size: StructureSize,
    step: AbstractStep,
    batch_size: int,
) -> Report:
    """What is compiled.

    Args:
      name: of the configuration, with its argument.
      overrides: fields that flags changed.
      topology: what for.
      size: of a structure.
      step: with its shapes.
      batch_size: of the configuration, over all chips.
    """
    parts = len(step.batch.n_node)
    micro = step.batch.n_node.shape[1] if len(step.batch.n_node.shape) > 2 else 1
    return {
        "config": name,
        "overrides": dict(overrides),
        "topology": topology.name,
        "chips": len(topology.devices),
        "parameters": step.parameters,
        "structure": size._asdict(),
        "batch_size": batch_size,
        "compiled_batch_size": parts * micro * step.structures,
        "structures_per_chip": step.structures * micro,
        "structures_at_a_time": step.structures,
        "padded_part": dataclasses.asdict(step.budget),
        "available_bytes": topology.chip.usable_bytes,
        "versions": {name: _version(name) for name in ("jax", "libtpu")},
    }


def describe_program(
    compiled: Compiled, costs: Costs, bounds: Roofline, problems: Sequence[str]
) -> Report:
    """What a step that fits costs a chip."""
    return {
        "fits": True,
        "compile_seconds": compiled.seconds,
        "compile_processor_seconds": compiled.processor_seconds,
        "memory_bytes": {
            **dataclasses.asdict(compiled.memory),
            "total": compiled.memory.total,
        },
        "flops": {
            "products": costs.product_flops,
            "products_in_bfloat16_passes": costs.pass_flops,
            "elementwise": costs.elementwise_flops,
        },
        "memory_traffic_bytes": costs.memory_bytes,
        "interconnect_bytes": costs.interconnect_bytes,
        "collectives": [
            {**dataclasses.asdict(collective), "sent_bytes": collective.sent_bytes}
            for collective in costs.collectives
        ],
        "kernels": costs.kernels,
        "roofline_seconds": bounds.bounds,
        "roofline_limit": bounds.limit,
        "problems": list(problems),
    }


def describe_excess(excess: TooLarge) -> Report:
    """What is known of a step that does not fit."""
    return {"fits": False, "compile_seconds": excess.seconds, "needed_bytes": excess.needed}


def describe_largest(largest: LargestBatch) -> Report:
    """The largest batch, and what was compiled to find it."""
    return {"largest_batch": dataclasses.asdict(largest)}


def to_text(report: Report) -> str:
    """A report for people, one figure a line."""
    lines = [f"{report['config']} on {report['topology']}, {report['chips']} chips"]
    lines += [f"  {name:<26}{value}" for name, value in _rows(report)]
    return "\n".join(lines)


def largest_to_text(report: Report) -> str:
    """The largest batch of a report, and what was compiled to find it."""
    largest = report["largest_batch"]
    tried = ", ".join(
        f"{trial['structures']}: {trial['bytes'] / GIB:.2f} GiB"
        f"{'' if trial['fits'] else ', too much'}"
        for trial in largest["trials"]
    )
    return f"  {'most at a time on a chip':<26}{largest['structures']} (compiled {tried})"


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _rows(report: Report) -> list[tuple[str, str]]:
    structure, available = report["structure"], report["available_bytes"]
    batch = f"{report['compiled_batch_size']}, {report['structures_per_chip']} on each chip"
    if report["compiled_batch_size"] != report["batch_size"]:
        batch += f" (the configuration has {report['batch_size']})"
    rows = [
        ("batch", batch),
        (
            "structure",
            f"{structure['atoms']} atoms, {structure['edges']:,} edges ({structure['source']})",
        ),
    ]
    if not report["fits"]:
        needed = f"{report['needed_bytes'] / GIB:.2f} of {available / GIB:.2f} GiB"
        return [*rows, ("does not fit: needs", needed)]
    rows.append(
        (
            "compiling took",
            f"{report['compile_seconds']:.0f} s, {report['compile_processor_seconds']:.0f} s of "
            f"all cores together{', stopped early (--quick)' if report['quick'] else ''}",
        )
    )
    memory, flops = report["memory_bytes"], report["flops"]
    kinds = ", ".join(
        f"{kind} {memory[kind] / GIB:.3f}"
        for kind in ("arguments", "outputs", "aliased", "temporaries", "program")
    )
    seconds = report["roofline_seconds"]
    times = ", ".join(f"{name} {1e3 * value:.3f}" for name, value in seconds.items())
    limit = report["roofline_limit"]
    return [
        *rows,
        (
            "memory",
            f"{memory['total'] / GIB:.3f} of {available / GIB:.2f} GiB "
            f"({memory['total'] / available:.0%})",
        ),
        ("", f"{kinds} (GiB)"),
        (
            "arithmetic",
            f"{flops['products'] / 1e9:.2f} GFLOP in products, "
            f"{flops['products_in_bfloat16_passes'] / 1e9:.2f} counted as bfloat16 passes, "
            f"{flops['elementwise'] / 1e9:.2f} elementwise",
        ),
        ("traffic with main memory", f"{report['memory_traffic_bytes'] / 1e9:.3f} GB"),
        ("sent to other chips", f"{report['interconnect_bytes'] / 1e6:.2f} MB"),
        ("kernels", f"{report['kernels']:,}"),
        (
            "bound by published peaks",
            f"{1e3 * seconds[limit]:.3f} ms, by {limit} ({times} ms); not a measurement",
        ),
        ("checks", "; ".join(report["problems"]) or "no float64, no gathering, no host transfer"),
    ]

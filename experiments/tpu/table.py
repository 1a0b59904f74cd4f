r"""Puts reports of `experiments.compile_tpu` into the tables of docs/tpu.md.

    python -m experiments.tpu.table --directory=reports --compile --only=v5e-8
    python -m experiments.tpu.table --directory=reports

With `--compile` the steps of the table (`experiments/tpu/entries.py`) that have no report yet are
compiled first, one after another, each in a process of its own with a time limit. All of them take
hours on a few cores; `--quick` lets the compiler stop early, in a third of the time, and leaves
alone what was compiled in full. A full report takes the place of a quick one.
"""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from absl import app, flags

from equiformer_jax.inference import markdown
from experiments.common import program
from experiments.tpu.chips import GIB
from experiments.tpu.entries import Entry, list_entries

_DIRECTORY = flags.DEFINE_string("directory", None, "Where the reports are.", required=True)
_COMPILE = flags.DEFINE_bool("compile", False, "Compile the steps that have no report there.")
_ONLY = flags.DEFINE_string("only", "", "Entries whose name has this in it.")
_QUICK = flags.DEFINE_bool("quick", False, "Let the compiler stop early.")
_LIMIT = flags.DEFINE_integer("limit_seconds", 3600, "For compiling one step.", 1)

_COLUMNS = (
    "configuration",
    "topology",
    "batch (a chip)",
    "memory (GiB)",
    "GFLOP",
    "traffic (GB)",
    "sent (MB)",
    "kernels",
    "bound (ms)",
    "compiling (core-s)",
)


@program
def main(arguments: Sequence[str]) -> None:
    """Compiles what is asked for, then prints the table."""
    if len(arguments) > 1:
        raise app.UsageError(f"unknown arguments {arguments[1:]}")
    directory = pathlib.Path(_DIRECTORY.value)
    entries = [entry for entry in list_entries() if _ONLY.value in entry.name]
    if _COMPILE.value:
        directory.mkdir(parents=True, exist_ok=True)
        for entry in entries:
            if not has_report(entry, directory, _QUICK.value):
                compile_entry(entry, directory, _LIMIT.value, _QUICK.value)
    reports = read_reports(entries, directory)
    if not reports:
        raise FileNotFoundError(f"no reports of {[entry.name for entry in entries]} in {directory}")
    print(to_markdown(reports))


def compile_entry(
    entry: Entry, directory: pathlib.Path, limit_seconds: float, quick: bool = False
) -> None:
    """Compiles a step in a process of its own, and says how that ended."""
    report = _report_of(entry, directory)
    command = [sys.executable, "-m", "experiments.compile_tpu", *entry.arguments]
    command += ["--nolargest_batch", f"--output={report}"]
    command += ["--quick"] if quick else []
    try:
        finished = subprocess.run(command, capture_output=True, text=True, timeout=limit_seconds)
    except subprocess.TimeoutExpired:
        print(f"{entry.name}: not compiled within {limit_seconds} s", flush=True)
        return
    if finished.returncode == 0:
        print(f"{entry.name}: {report}", flush=True)
    else:
        print(f"{entry.name} failed:\n{finished.stderr}", flush=True)


def has_report(entry: Entry, directory: pathlib.Path, quick: bool) -> bool:
    """Whether there is a report that a new one would not better."""
    path = _report_of(entry, directory)
    return path.exists() and (quick or not json.loads(path.read_text("utf-8"))["quick"])


def read_reports(entries: Sequence[Entry], directory: pathlib.Path) -> list[dict[str, Any]]:
    """The reports that there are, in the order of the entries."""
    paths = [_report_of(entry, directory) for entry in entries]
    return [json.loads(path.read_text("utf-8")) for path in paths if path.exists()]


def to_markdown(reports: Sequence[dict[str, Any]]) -> str:
    """One line for each report, of one step on one chip."""
    lines = [markdown.row(_COLUMNS), markdown.row(["---"] * len(_COLUMNS))]
    lines += [markdown.row(_cells(report)) for report in reports]
    return "\n".join(lines)


def _report_of(entry: Entry, directory: pathlib.Path) -> pathlib.Path:
    return directory / f"{entry.name}.json"


def _cells(report: dict[str, Any]) -> list[str]:
    available = report["available_bytes"]
    cells = [
        _name(report),
        report["topology"],
        f"{report['compiled_batch_size']} ({report['structures_per_chip']})",
    ]
    if not report["fits"]:
        needed = f"{report['needed_bytes'] / GIB:.2f}: **does not fit**"
        return [*cells, needed, *[""] * (len(_COLUMNS) - len(cells) - 1)]
    seconds, memory = report["roofline_seconds"], report["memory_bytes"]["total"]
    limit = report["roofline_limit"]
    return [
        *cells,
        f"{memory / GIB:.2f} ({memory / available:.0%})",
        f"{report['flops']['products'] / 1e9:.1f}",
        f"{report['memory_traffic_bytes'] / 1e9:.2f}",
        f"{report['interconnect_bytes'] / 1e6:.1f}",
        f"{report['kernels']:,}",
        f"{1e3 * seconds[limit]:.2f} ({limit})",
        f"{report['compile_processor_seconds']:.0f}{' (quick)' if report['quick'] else ''}",
    ]


def _name(report: dict[str, Any]) -> str:
    path, colon, argument = report["config"].partition(":")
    name = f"`{pathlib.Path(path).stem}{colon}{argument}`"
    changes = ", ".join(f"`{key}={value}`" for key, value in report["overrides"].items())
    return f"{name}, {changes}" if changes else name


if __name__ == "__main__":
    app.run(main)

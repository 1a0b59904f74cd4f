"""The report of a run: one Markdown file that says what was trained and how well it predicts."""

from __future__ import annotations

import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from equiformer_jax.inference import report_parts as parts
from equiformer_jax.inference.plots import (
    LEARNING_CURVE,
    parity_name,
    plot_learning_curve,
    plot_parity,
)
from equiformer_jax.training.configuration import to_plain
from equiformer_jax.training.evaluation import Evaluation
from equiformer_jax.training.metrics import FILE_NAME as METRICS_FILE
from equiformer_jax.training.metrics import read_metrics
from equiformer_jax.training.run_facts import RunFacts
from equiformer_jax.training.workdir import load_config, write_text_atomically


def report_name(split: str) -> str:
    """Name of the report on a split: `report.md` for the test split."""
    return "report.md" if split == "test" else f"report_{split}.md"


def report_run(workdir: str | os.PathLike[str], evaluation: Evaluation) -> list[pathlib.Path]:
    """Writes the report of an evaluation of a run, from what its workdir holds.

    Args:
      workdir: directory of the run.
      evaluation: predictions and references of one of its splits.

    Returns:
      The files that a person wants to open: the report, its pictures, the records and the errors.

    Raises:
      WorkdirError: the workdir is not that of a run, or the report cannot be written.
    """
    workdir = pathlib.Path(workdir).expanduser().resolve()
    config, records = to_plain(load_config(workdir)), read_metrics(workdir)
    report = write_report(workdir, evaluation, config, records, RunFacts.load(workdir))
    names = [parity_name(evaluation.split), METRICS_FILE, evaluation.summary_name]
    if any(record["kind"] == "epoch" for record in records):
        names.insert(0, LEARNING_CURVE)
    return [report, *(workdir / name for name in names)]


def write_report(
    workdir: str | os.PathLike[str],
    evaluation: Evaluation,
    config: Mapping[str, Any],
    records: Sequence[Mapping[str, Any]],
    facts: RunFacts,
) -> pathlib.Path:
    """Writes the report of a run into its workdir, with the pictures that it shows.

    The report on the test split is `report.md`, that on another split `report_<split>.md`. It is
    written last and at once: whoever finds it finds it whole, and its pictures.

    Args:
      workdir: directory of the run.
      evaluation: predictions and references of one of its splits.
      config: of the run, plain (`configuration.to_plain`).
      records: those of `metrics.jsonl`.
      facts: what else is known of the run.

    Returns:
      The path of the report.

    Raises:
      WorkdirError: the report cannot be written.
    """
    workdir = pathlib.Path(workdir).expanduser().resolve()
    epochs = [record for record in records if record["kind"] == "epoch"]
    parity = parity_name(evaluation.split)
    plot_parity(evaluation, workdir / parity)
    if epochs:
        plot_learning_curve(records, workdir / LEARNING_CURVE)

    split = evaluation.split
    sections = [
        f"# {workdir.name}: report on the {split} split\n\n{parts.headline(evaluation)}",
        "## What was trained\n\n" + parts.what_was_trained(config, evaluation, epochs, facts),
        f"## Errors on the {split} split\n\n" + parts.errors(evaluation),
        "## Beside the published figures\n\n"
        + parts.beside_published(config, evaluation, epochs, facts),
        "## Learning curve\n\n" + parts.learning_curve(epochs, LEARNING_CURVE),
        f"## Predictions and references\n\n![Predictions over references]({parity})",
        "## How the errors are spread\n\n" + parts.spread(evaluation),
        "## Errors by element\n\n" + parts.errors_by_element(evaluation),
        "## Configuration\n\n" + _folded("The whole configuration of the run", config),
    ]
    path = workdir / report_name(split)
    write_text_atomically(path, "\n\n".join(sections) + "\n")
    return path


def _folded(title: str, config: Mapping[str, Any]) -> str:
    """JSON that a browser shows when it is asked to; a terminal shows all of it."""
    text = json.dumps(config, indent=2, ensure_ascii=False)
    return f"<details>\n<summary>{title}</summary>\n\n```json\n{text}\n```\n\n</details>"

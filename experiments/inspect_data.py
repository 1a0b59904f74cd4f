"""Shows the data that a configuration trains on, and what is wrong with them.

    python -m experiments.inspect_data --config=experiments/configs/quickstart.py --output=data.png

Prints sizes, elements, neighborhoods, labels and some structures of each split, and how full the
training batches will be; draws histograms; looks for duplicates across splits, atoms too close to
each other, atoms without neighbors, missing labels, forces that do not sum to zero, and labels that
seem to have another unit. Ends with status 1 if training on these data would be a mistake.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import numpy as np
from absl import app, flags
from ml_collections import config_dict, config_flags

from equiformer_jax.data import batching
from equiformer_jax.data.catalog import load_dataset
from equiformer_jax.data.inspection.facts import SplitFacts
from equiformer_jax.data.inspection.findings import find_problems
from equiformer_jax.data.inspection.picture import draw_dataset
from equiformer_jax.data.inspection.report import (
    describe_split,
    describe_structure,
    shown_structures,
)
from equiformer_jax.data.readers.qm9_targets import find_target
from experiments.common import program, run

_CONFIG = config_flags.DEFINE_config_file("config", None, "Python file with a get_config function.")
_OUTPUT = flags.DEFINE_string("output", None, "PNG file for the histograms; none if not given.")
_SAMPLE = flags.DEFINE_integer(
    "sample", None, "Look at so many structures of each split, evenly spread; all if not given.", 1
)
_DEVICES = flags.DEFINE_integer("devices", 1, "Devices that will share a batch.", 1)


@program
def main(arguments: Sequence[str]) -> None:
    """Reads, prints, draws."""
    if len(arguments) > 1:
        raise app.UsageError(f"unknown arguments {arguments[1:]}")
    config = _CONFIG.value
    splits = load_dataset(config.data.name, config.data.options, config.data.limits)
    cutoff, max_neighbors = config.model.max_radius, config.model.max_neighbors
    label = _energy_label(config.data)
    print(f"{config.data.name}, neighbors within {cutoff} Å")
    facts = []
    for name, structures in splits.items():
        facts.append(SplitFacts(name, structures, cutoff, max_neighbors, _SAMPLE.value))
        print(describe_split(facts[-1], label))
    train = facts[0]
    print("some training structures:")
    for index in shown_structures(len(train)):
        fact = train.facts[index]
        text = describe_structure(splits["train"][fact.index], fact, label)
        print("  " + text.replace("\n", "\n  "))
    print(_describe_batches(train, config))
    if _OUTPUT.value and any(map(len, facts)):
        print(f"written:\n  {draw_dataset(facts, _OUTPUT.value, label)}")
    findings = find_problems(facts)
    for finding in findings:
        print(finding)
    if not findings:
        print("nothing suspicious was found")
    if any(finding.is_error for finding in findings):
        sys.exit(1)


def _energy_label(data: config_dict.ConfigDict) -> str:
    """What stands in place of the energy, with its unit."""
    if data.name != "qm9":
        return "energy (eV)"
    target = find_target(data.options.target)
    return f"{target.name} ({target.unit})"


def _describe_batches(train: SplitFacts, config: config_dict.ConfigDict) -> str:
    """How full the batches of the first epoch of these sizes are."""
    batch_size, window = config.training.batch_size, config.data.balance_window
    num_parts = _DEVICES.value * config.training.accumulate
    if len(train) < batch_size:
        return f"batches: {len(train)} structures do not fill one batch of {batch_size}"
    sizes = batching.GraphSizes(train.column("num_atoms"), train.column("num_edges"))
    budgets = batching.choose_budgets(sizes, batch_size, num_parts, window)
    order = np.random.default_rng([config.seed, 0]).permutation(len(train))
    plan = batching.plan_epoch(
        order, sizes, batch_size=batch_size, num_devices=num_parts, window=window
    )
    fill = batching.fill_of_plan(plan, sizes, budgets)
    shapes = " or ".join(f"{b.n_node:,} atoms and {b.n_edge:,} edges" for b in budgets)
    return (
        f"batches of {batch_size} structures in {num_parts} part(s): {shapes} in each; "
        f"{fill.nodes:.1%} of the atoms and {fill.edges:.1%} of the edges are real work"
    )


if __name__ == "__main__":
    flags.mark_flag_as_required("config")
    run(main)

"""The sections of the report of a run, each a piece of Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from equiformer_jax.inference import error_analysis
from equiformer_jax.inference.comparison import (
    Condition,
    compare,
    describe_data,
    differing_fields,
)
from equiformer_jax.inference.markdown import code, table
from equiformer_jax.inference.published import find_published
from equiformer_jax.inference.quantities import label_error_unit, readable
from equiformer_jax.models.config import EquiformerConfig
from equiformer_jax.models.presets import get_preset, list_presets
from equiformer_jax.training.configuration import model_from_settings
from equiformer_jax.training.evaluation import Evaluation
from equiformer_jax.training.metric_names import quantity_of_metric, title_of_label
from equiformer_jax.training.metrics import format_duration
from equiformer_jax.training.run_facts import RunFacts

Records = Sequence[Mapping[str, Any]]

_MILLI = 1000.0
_VALIDATION = "validation_"
_WITHIN_THRESHOLD, _THRESHOLD = "energy_within_threshold", "0.02 eV"


def headline(evaluation: Evaluation) -> str:
    """The errors in one line."""
    found = [
        f"{quantity.title} {readable(value)} {quantity.unit}"
        for name, value in evaluation.metrics.items()
        if (quantity := quantity_of_metric(name)) is not None
    ]
    count = len(evaluation.reference_energies)
    return f"**Mean absolute error: {', '.join(found)}**, over {count:,} structures."


def what_was_trained(
    config: Mapping[str, Any], evaluation: Evaluation, epochs: Records, facts: RunFacts
) -> str:
    """Data, model, training, machine and versions."""
    training, optimizer = config["training"], config["optimizer"]
    model = model_from_settings(config["model"])
    sizes = ", ".join(f"{split} {size:,}" for split, size in facts.split_sizes.items())
    rows = [
        ["data set", describe_data(config)],
        ["structures", sizes],
        ["model", describe_model(model)],
        ["parameters", f"{facts.num_parameters:,}"],
        ["objective", config["objective"]["kind"]],
        ["epochs", f"{_epochs_done(epochs):,} of {training['num_epochs']:,}"],
        ["batch size", f"{training['batch_size']:,}"],
        [
            "optimizer",
            f"AdamW, learning rate {optimizer['learning_rate']:g}, "
            f"weight decay {optimizer['weight_decay']:g}",
        ],
        ["weights", evaluation.weights],
        ["devices", facts.devices],
    ]
    if epochs:
        rows.append(["in training steps", format_duration(_training_seconds(config, epochs))])
    rows.append(["versions", f"equiformer_jax {facts.package_version}, jax {facts.jax_version}"])
    return table(["", ""], rows)


def describe_model(model: EquiformerConfig) -> str:
    """Its preset, if it is one, and what it is made of."""
    presets = [name for name in list_presets() if not differing_fields(model, get_preset(name))]
    name = f"{code(min(presets, key=len))}: " if presets else ""
    attention = "dot-product attention, linear messages"
    if model.attention == "mlp":
        attention = f"{'nonlinear' if model.nonlinear_message else 'linear'} messages"
    return (
        f"{name}{model.num_layers} blocks of {model.irreps_node_embedding}, {attention}, "
        f"cutoff {model.max_radius:g} Å, {model.number_of_basis} {model.basis_type} functions"
    )


def errors(evaluation: Evaluation) -> str:
    """Every error that the objective reports, with its unit."""
    rows = []
    for name, value in evaluation.metrics.items():
        quantity = quantity_of_metric(name)
        if quantity is not None:
            rows.append([quantity.title, readable(value), quantity.unit])
        elif name == _WITHIN_THRESHOLD:
            rows.append([f"Energies within {_THRESHOLD}", readable(100 * value), "%"])
    relative = evaluation.force_error_relative_to_zero
    if relative is not None:
        rows.append(["Forces, of the error of predicting zero", readable(100 * relative), "%"])
    file = evaluation.summary_name
    return (
        table(["mean absolute error", "", "unit"], rows, numbers=[1])
        + f"\n\nAll of them, unrounded: [{file}]({file})."
    )


def learning_curve(epochs: Records, picture: str) -> str:
    """The picture, and the best epoch of each error."""
    if not epochs:
        return "No epoch has been recorded."
    quantities = {
        name: quantity
        for name in epochs[-1]
        if name.startswith(_VALIDATION)
        and (quantity := quantity_of_metric(name.removeprefix(_VALIDATION))) is not None
    }
    lines = [f"![Errors over the epochs]({picture})", ""]
    for name, (title, unit) in quantities.items():
        last, lowest = epochs[-1], _lowest(epochs, name)
        best = "the lowest"
        if lowest is not last:
            best = f"lowest after epoch {lowest['epoch']:,}, {readable(lowest[name])} {unit}"
        lines.append(
            f"* {title}, validation: {readable(last[name])} {unit} after the last epoch; {best}"
        )
    return "\n".join(lines)


def spread(evaluation: Evaluation) -> str:
    """Median, 95th percentile and largest error, and where this is."""
    factor, unit = label_error_unit(evaluation)
    label = error_analysis.label_spread(evaluation)
    rows = [_spread_row(title_of_label(evaluation.label), unit, factor, label)]
    places = [f"* {rows[0][0]}: {code(label.where)}"]
    if evaluation.predicted_forces is not None:
        forces = error_analysis.force_spread(evaluation)
        rows.append(_spread_row("Force components", "meV/Å", _MILLI, forces))
        places.append(f"* {rows[1][0]}: {code(forces.where)}")
    header = ["absolute error", "mean", "median", "95th percentile", "largest", "unit"]
    return (
        table(header, rows, numbers=[1, 2, 3, 4])
        + "\n\nThe largest errors are those of\n\n"
        + "\n".join(places)
    )


def errors_by_element(evaluation: Evaluation) -> str:
    """Forces: the error on the atoms of each element. Else: on the structures that contain it."""
    if evaluation.predicted_forces is not None:
        rows, unit, factor = error_analysis.force_errors_by_element(evaluation), "meV/Å", _MILLI
        text, counted = "Force components on the atoms of each element.", "atoms"
    else:
        factor, unit = label_error_unit(evaluation)
        rows = error_analysis.label_errors_by_element(evaluation)
        title = title_of_label(evaluation.label)
        text, counted = f"{title} of the structures that contain each element.", "structures"
    cells = [[row.symbol, f"{row.number:,}", readable(factor * row.mean)] for row in rows]
    header = ["element", counted, f"mean absolute error, {unit}"]
    return text + "\n\n" + table(header, cells, numbers=[1, 2])


def beside_published(
    config: Mapping[str, Any], evaluation: Evaluation, epochs: Records, facts: RunFacts
) -> str:
    """The published errors, if there are any, with everything that is known to differ."""
    published = find_published(config)
    metrics = [] if published is None else [n for n in published.errors if n in evaluation.metrics]
    if published is None or not metrics:
        return "No published figure is known for this data set and this kind of model."
    num_train, epochs_done = facts.split_sizes["train"], _epochs_done(epochs)
    conditions = compare(published, config, evaluation, num_train, epochs_done)
    rows = []
    for name in metrics:
        quantity = quantity_of_metric(name)
        title = name if quantity is None else f"**{quantity.title}, {quantity.unit}**"
        here = readable(evaluation.metrics[name])
        rows.append([title, here, f"{published.errors[name]:g}", ""])
    rows += [[c.name, c.here, c.published, "differs" * c.differs] for c in conditions]
    return (
        table(["", "this run", "published", ""], rows)
        + f"\n\n{_verdict(conditions)} Weights of the loss, schedules, random seeds, number formats"
        + f" and machines are not compared.\n\nSource: {published.source}."
    )


def _verdict(conditions: Sequence[Condition]) -> str:
    differing = [condition.name for condition in conditions if condition.differs]
    if not differing:
        return "**Nothing of the above differs.**"
    return (
        f"**What differs: {', '.join(differing)}.** The two errors are not of the same experiment."
    )


def _spread_row(
    title: str, unit: str, factor: float, spread: error_analysis.ErrorSpread
) -> list[str]:
    numbers = (spread.mean, spread.median, spread.percentile_95, spread.largest)
    return [title, *(readable(factor * number) for number in numbers), unit]


def _lowest(epochs: Records, name: str) -> Mapping[str, Any]:
    return min((record for record in epochs if name in record), key=lambda record: record[name])


def _epochs_done(epochs: Records) -> int:
    return epochs[-1]["epoch"] if epochs else 0


def _training_seconds(config: Mapping[str, Any], epochs: Records) -> float:
    """From the recorded speed; compiling and evaluating are not in it."""
    seconds, before = 0.0, 0
    for record in epochs:
        structures = (record["step"] - before) * config["training"]["batch_size"]
        seconds += structures / record["structures_per_second"]
        before = record["step"]
    return seconds

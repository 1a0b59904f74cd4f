"""A run beside the published one: never the errors alone, always with what differs."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

from equiformer_jax.inference.published import PublishedRun
from equiformer_jax.models.config import FIELDS_OF_MEMORY, EquiformerConfig
from equiformer_jax.models.presets import get_preset
from equiformer_jax.training.configuration import model_from_settings
from equiformer_jax.training.evaluation import Evaluation

_NAMES = {
    "embedded_aspirin": "embedded aspirin",
    "md17": "MD17",
    "rmd17": "revised MD17",
    "md22": "MD22",
    "qm9": "QM9",
    "oc20_s2ef": "OC20 S2EF",
    "files": "own files",
}


class Condition(NamedTuple):
    """Something that an error depends on.

    Attributes:
      name: what it is.
      here: in the run.
      published: in the published one.
      differs: whether the two are not the same.
    """

    name: str
    here: str
    published: str
    differs: bool


def compare(
    published: PublishedRun,
    config: Mapping[str, Any],
    evaluation: Evaluation,
    num_train: int,
    epochs_done: int,
) -> list[Condition]:
    """Everything that is known of both runs and that the errors depend on.

    Args:
      published: from `find_published`.
      config: of the run, plain.
      evaluation: what is compared.
      num_train: structures trained on.
      epochs_done: epochs that the run has trained for.
    """
    data, training = describe_data(config), config["training"]
    rate, start = config["optimizer"]["learning_rate"], training.get("start_from")
    model = model_differences(config["model"], published.preset)
    num_evaluated = len(evaluation.reference_energies)
    return [
        Condition("data set", data, published.data, data != published.data),
        _number("training structures", num_train, published.num_train),
        _number("epochs", epochs_done, published.num_epochs),
        _number("batch size", training["batch_size"], published.batch_size),
        Condition(
            "learning rate",
            f"{rate:g}",
            f"{published.learning_rate:g}",
            rate != published.learning_rate,
        ),
        Condition(
            "first weights",
            "random" if start is None else f"those of {start}",
            "random",
            start is not None,
        ),
        Condition(
            "model", "; ".join(model) or published.preset, published.preset, differs=bool(model)
        ),
        Condition(
            "measured on",
            f"{evaluation.split}, {num_evaluated:,} structures",
            f"{published.measured_on}, {published.num_measured:,} structures",
            evaluation.split not in published.splits or num_evaluated != published.num_measured,
        ),
    ]


def describe_data(config: Mapping[str, Any]) -> str:
    """The data set of a run and what of it, such as `revised MD17 aspirin, split 1`."""
    name, options = config["data"]["name"], config["data"]["options"]
    title = _NAMES.get(name, name)
    if name == "oc20_is2re":
        own = any(options.get(split) for split in ("train", "validation", "test"))
        return "OC20 IS2RE, " + ("own files" if own else f"subset {options.get('subset', 'all')}")
    if name in ("md17", "rmd17", "md22"):
        title += f" {options.get('molecule', options.get('system'))}"
    if name == "rmd17":
        title += f", split {options.get('split', 1)}"
    return title


def model_differences(settings: Mapping[str, Any], preset: str) -> list[str]:
    """The fields of a model that are not those of a preset, such as `num_layers 2 (6)`.

    Args:
      settings: of the run's model, plain.
      preset: the published model; its values are in the brackets.
    """
    here, there = model_from_settings(settings), get_preset(preset)
    return [
        f"{name} {getattr(here, name)} ({getattr(there, name)})"
        for name in differing_fields(here, there)
    ]


def differing_fields(here: EquiformerConfig, there: EquiformerConfig) -> list[str]:
    """The fields in which two models differ, but those that change no result.

    Whether intermediates are kept or made again is no difference.
    """
    return [
        field.name
        for field in dataclasses.fields(here)
        if getattr(here, field.name) != getattr(there, field.name)
        and field.name not in FIELDS_OF_MEMORY
    ]


def _number(name: str, here: int, published: int) -> Condition:
    return Condition(name, f"{here:,}", f"{published:,}", here != published)

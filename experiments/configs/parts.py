"""The parts of which the configurations in this folder are put together.

A configuration has a `seed` and the parts `model`, `data`, `normalizer`, `objective`, `optimizer`,
`schedule`, `training` and `mesh`; some have an `augmentation`, too. Every field can be overridden
by a flag such as `--config.training.num_epochs=10`; a field that is not there is an error.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ml_collections import config_dict

from equiformer_jax.models.presets import get_preset
from equiformer_jax.training.configuration import model_settings

SPLITS = ("train", "validation", "test")
# Edges worked on at a time where a loss has one derivative: what is made of them on the way stays
# in the cache, and making it again costs less than reading it back (docs/performance.md).
EDGES_IN_CACHE = 1024
# And where it has two, for forces: recomputing costs more than it saves there, as long as all edges
# stay in the memory beside a TPU's processor, which those of MD17's training batches do.
EDGES_OF_MOLECULES = 4096


def parse_argument(argument: str | None, first: str, **defaults: Any) -> dict[str, Any]:
    """Reads what stands behind the colon of `--config=file.py:argument`.

    `aspirin,lmax=3,dens` sets the option `first` to `aspirin`, `lmax` to 3 and `dens` to true.

    Args:
      argument: the text, or None.
      first: which option a leading text without a name sets.
      **defaults: the options and their values where nothing is said; their types are kept.

    Returns:
      The value of every option.

    Raises:
      ValueError: an option is unknown, or its value has another type.
    """
    values = dict(defaults)
    for index, part in enumerate(filter(None, (argument or "").split(","))):
        name, equals, text = part.partition("=")
        if not equals and index == 0 and not isinstance(defaults.get(name), bool):
            name, text = first, part
        elif not equals:
            text = "true"
        if name not in defaults:
            raise ValueError(f"unknown option {name!r} in {argument!r}; known are {list(defaults)}")
        values[name] = _converted(name, text, defaults[name])
    return values


def _converted(name: str, text: str, default: Any) -> Any:
    if isinstance(default, bool):
        if text.lower() not in ("true", "false"):
            raise ValueError(f"{name}={text!r}; expected true or false")
        return text.lower() == "true"
    try:
        return type(default)(text)
    except ValueError as error:
        raise ValueError(f"{name}={text!r}; expected {type(default).__name__}") from error


def choose(name: str, value: Any, table: Mapping[Any, Any]) -> Any:
    """Looks `value` up in a table of recipes.

    Raises:
      ValueError: it is not there; lists what is.
    """
    if value not in table:
        raise ValueError(f"{name}={value!r}; known are {list(table)}")
    return table[value]


def model(preset: str, **overrides: Any) -> config_dict.ConfigDict:
    """A preset of `equiformer_jax.list_presets`, some fields changed."""
    return model_settings(get_preset(preset, **overrides))


def data(name: str, balance_window: int = 1, **options: Any) -> config_dict.ConfigDict:
    """A data set of the catalog.

    Args:
      name: its name.
      balance_window: from so many batches of the shuffled order the graphs are dealt out together,
        so that batches are equally large; 1 is the plain shuffle.
      **options: what the data set wants to know; `None` stands for text that is not given.
    """
    settings = config_dict.ConfigDict()
    settings.name = name
    settings.options = {
        key: config_dict.placeholder(str) if value is None else value
        for key, value in options.items()
    }
    # How many structures of each split to take; all where nothing is given.
    settings.limits = {split: config_dict.placeholder(int) for split in SPLITS}
    settings.balance_window = balance_window
    # The most atoms and edges, padding included, that a device may be given at once.
    settings.max_nodes = config_dict.placeholder(int)
    settings.max_edges = config_dict.placeholder(int)
    # By which share an augmentation may add edges to a structure; several hosts need to know.
    settings.headroom = 0.1
    settings.graph_cache = config_dict.placeholder(str)  # folder that keeps neighbor lists
    settings.workers = 0  # processes that make batches; 0: threads of this one
    return settings


def normalizer(mean: float | None = None, std: float | None = None) -> config_dict.ConfigDict:
    """What labels are relative to, and their unit inside the network.

    Args:
      mean: taken off the labels; `None` for the mean of the training labels.
      std: one unit of the network; `None` for the standard deviation of the training labels.
    """
    return config_dict.ConfigDict(
        {
            # Placeholders of their own: a shared one would give both the same value.
            "mean": config_dict.placeholder(float) if mean is None else mean,
            "std": config_dict.placeholder(float) if std is None else std,
            # Take off a sum of energies per element, fitted to the training labels, in place of the
            # mean, for systems of different compositions.
            "reference_energies": False,
        }
    )


def energies_and_forces(energy_weight: float, force_weight: float) -> config_dict.ConfigDict:
    """The objective of molecular dynamics data (SPEC §12.3)."""
    return config_dict.ConfigDict(
        {
            "kind": "energy_forces",
            # A flag cannot put a fraction where an integer stands.
            "energy_weight": float(energy_weight),
            "force_weight": float(force_weight),
            "energy_error": "l1",  # or l2, mse, huber
            "force_error": "l2",  # or l1, mse, huber
            "stress_weight": 0.0,
            "stress_error": "l1",  # or huber
            "huber_delta": 0.01,
        }
    )


def adamw(learning_rate: float, weight_decay: float) -> config_dict.ConfigDict:
    """AdamW with the published decay groups, and what can be added to it, off."""
    return config_dict.ConfigDict(
        {
            "learning_rate": learning_rate,
            "weight_decay": weight_decay,
            "clip_norm": config_dict.placeholder(float),
            "ema_decay": config_dict.placeholder(float),  # of a moving average of the weights
            # Paths of parameters that stay as they are, such as "atom_embedding.*".
            "freeze": (),
        }
    )


def cosine_epochs(warmup_epochs: int) -> config_dict.ConfigDict:
    """The schedule of QM9 and MD17, one rate for each epoch (SPEC §12.1)."""
    return config_dict.ConfigDict(
        {"kind": "cosine_epochs", "warmup_epochs": warmup_epochs, "warmup_lr": 1e-6, "min_lr": 1e-6}
    )


def training(
    num_epochs: int, batch_size: int, evaluation_batch_size: int, **changes: Any
) -> config_dict.ConfigDict:
    """How long, with how many structures in a step, and what to keep and print.

    Args:
      num_epochs: epochs of the whole run.
      batch_size: structures in a step, over all devices.
      evaluation_batch_size: structures evaluated together.
      **changes: other values of the fields below.
    """
    settings = config_dict.ConfigDict(
        {
            "num_epochs": num_epochs,
            "batch_size": batch_size,
            "evaluation_batch_size": evaluation_batch_size,
            # Parts into which a step is divided, one after another, to need less memory.
            "accumulate": 1,
            # Models trained together in one program, from different random numbers; the mean of
            # their predictions is what is evaluated.
            "ensemble": 1,
            # Leave out steps whose loss or gradient is not finite, instead of stopping.
            "skip_nonfinite": False,
            # Validate and save every so many steps inside an epoch, too; 0: only after each epoch.
            "validate_every_steps": 0,
            # Evaluate the test split every so many epochs, on so many batches; 0: only at the end.
            "test_every_epochs": 0,
            "test_batches": config_dict.placeholder(int),
            # Which weights the final test is made with, `last` or `best` (on the validation split).
            "report": "last",
            "log_every_steps": 0,  # lines inside an epoch; 0 for none
            "keep_checkpoints": 2,  # newest ones, beside the best
            # Start from the weights of this workdir, checkpoint or PyTorch file.
            "start_from": config_dict.placeholder(str),
        }
    )
    settings.update(changes)
    return settings


def mesh() -> config_dict.ConfigDict:
    """How the devices share a step."""
    return config_dict.ConfigDict(
        {
            # Divide the state of the optimizer and the average of the weights over the devices.
            "shard_optimizer": False,
            # Devices that share the edges of one part of a batch.
            "edge_parts": 1,
        }
    )


def experiment(seed: int, **parts: config_dict.ConfigDict) -> config_dict.ConfigDict:
    """Puts the parts together; labels are standardized by the training split's unless told."""
    config = config_dict.ConfigDict({"seed": seed, "normalizer": normalizer(), "mesh": mesh()})
    for name, part in parts.items():
        config[name] = part
    return config

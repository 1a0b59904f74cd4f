"""Run configurations as plain nested mappings: to write down, to read back and to compare."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from typing import Any

from ml_collections import config_dict

from equiformer_jax.models.config import EquiformerConfig


def model_settings(config: EquiformerConfig) -> config_dict.ConfigDict:
    """An `EquiformerConfig` as a `ConfigDict`, so that flags can override its fields.

    Fields that may be `None` become placeholders of their type.
    """
    hints = typing.get_type_hints(EquiformerConfig)
    settings = config_dict.ConfigDict()
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if value is None:
            settings[field.name] = config_dict.placeholder(_type_beside_none(hints[field.name]))
        else:
            settings[field.name] = value
    return settings


def model_from_settings(settings: Mapping[str, Any]) -> EquiformerConfig:
    """The inverse of `model_settings`; also takes what came back from JSON.

    Raises:
      ValueError: a field is unknown, or a value does not fit (`EquiformerConfig`).
    """
    values = dict(settings.items())
    known = {field.name for field in dataclasses.fields(EquiformerConfig)}
    unknown = sorted(set(values) - known)
    if unknown:
        raise ValueError(f"config.model has unknown fields {unknown}; known are {sorted(known)}")
    return EquiformerConfig(**values)


def _type_beside_none(hint: Any) -> type:
    (other,) = (option for option in typing.get_args(hint) if option is not types.NoneType)
    return typing.get_origin(other) or other


def to_plain(config: Mapping[str, Any]) -> dict[str, Any]:
    """Nested dictionaries and lists of numbers, strings, booleans and `None`, as in JSON."""
    return {str(name): _plain_value(value) for name, value in config.items()}


def _plain_value(value: Any) -> Any:
    if isinstance(value, Mapping | config_dict.ConfigDict):
        return to_plain(value)
    if isinstance(value, list | tuple):
        return [_plain_value(entry) for entry in value]
    return value


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one, keys joined by dots."""
    flat: dict[str, Any] = {}
    for name, value in config.items():
        path = f"{prefix}{name}"
        flat |= flatten(value, f"{path}.") if isinstance(value, Mapping) else {path: value}
    return flat


def describe_difference(
    saved: Mapping[str, Any],
    given: Mapping[str, Any],
    ignored: frozenset[str] = frozenset(),
    earlier: Mapping[str, Any] | None = None,
) -> list[str]:
    """Lists the fields in which two plain configurations differ.

    Args:
      saved: configuration of the checkpoint.
      given: configuration asked for.
      ignored: dotted names that may differ.
      earlier: what fields meant, by dotted name, in checkpoints that do not have them; else None.

    Returns:
      One line for each field, empty where there is no difference.
    """
    new, absent = flatten(given), "(absent)"
    old = {name: value for name, value in (earlier or {}).items() if name in new} | flatten(saved)
    lines = []
    for name in sorted((old.keys() | new.keys()) - ignored):
        before, after = old.get(name, absent), new.get(name, absent)
        if before != after and (before, after) not in ((absent, None), (None, absent)):
            lines.append(f"{name}: checkpoint {before!r}, asked for {after!r}")
    return lines

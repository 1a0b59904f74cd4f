"""The steps of the table in docs/tpu.md."""

from __future__ import annotations

from typing import NamedTuple

from experiments.tpu.sizes import SYSTEMS

_CONFIGS = "experiments/configs"
# Slices of eight TensorCores, by their public names: a v5p chip has two of them.
_SLICES = {"v5e-8": "v5e:2x4", "v5p-8": "v5p:2x2x1", "v6e-8": "v6e:2x4"}
_PODS = {
    "v5e-64": "v5e:8x8",
    "v5e-256": "v5e:16x16",
    "v6e-64": "v6e:8x8",
    "v6e-256": "v6e:16x16",
}
_MODELS = {
    "md17_l2": "md17.py:aspirin",
    "md17_l3": "md17.py:aspirin,lmax=3",
    "qm9": "qm9.py:alpha",
    "oc20_is2re": "oc20_is2re.py:nonlinear",
    "oc20_is2re_is2rs": "oc20_is2re.py:blocks18",
    **{f"md22_{system}": f"md22.py:{system}" for system in SYSTEMS},
}
_DIVIDED = "--config.mesh.shard_optimizer=True"


class Entry(NamedTuple):
    """One step to compile.

    Attributes:
      name: of its report.
      arguments: of `experiments.compile_tpu`.
    """

    name: str
    arguments: tuple[str, ...]


def list_entries() -> list[Entry]:
    """Every model on every topology, and the smallest one with a divided optimizer, too."""
    entries = [_entry(model, place) for place in [*_SLICES, *_PODS] for model in _MODELS]
    return entries + [
        _entry("md17_l2", place, "_divided", _DIVIDED) for place in ("v5e-8", "v5e-64", "v5e-256")
    ]


def _entry(model: str, place: str, suffix: str = "", *changes: str) -> Entry:
    topology = (_SLICES | _PODS)[place]
    arguments = (f"--topology={topology}", f"--config={_CONFIGS}/{_MODELS[model]}", *changes)
    return Entry(f"{place}_{model}{suffix}", arguments)

"""Reading fixture files, the official ones and this project's own, which share a layout.

An `.npz` holds `meta` (a JSON string) and arrays in groups: `param/<official name>`, `in/*`,
`out/*`, in the official ones `mid/*` and `grad/<official name>`, in ours `slope/*`.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
from typing import Any, NamedTuple

import numpy as np

from tests.reference.model import Inputs, ModelConfig
from tests.reference.parameters import Scope

Arrays = dict[str, np.ndarray]


class Fixture(NamedTuple):
    """One file: its meta data and its arrays, by group, without the name of the group."""

    meta: dict[str, Any]
    inputs: Arrays
    outputs: Arrays
    parameters: Arrays
    intermediates: Arrays
    gradients: Arrays
    slopes: Arrays

    @property
    def scope(self) -> Scope:
        """A fresh view of the parameters."""
        return Scope(self.parameters)

    @property
    def config(self) -> ModelConfig:
        """The model of a whole-model fixture."""
        return model_config(self.meta)

    @property
    def batch(self) -> Inputs:
        """The inputs of a whole-model fixture."""
        return model_inputs(self.inputs)


def read_fixture(path: pathlib.Path) -> Fixture:
    """All arrays of one file."""
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    groups = [
        {
            name.removeprefix(group + "/"): value
            for name, value in arrays.items()
            if name.startswith(group + "/")
        }
        for group in ("in", "out", "param", "mid", "grad", "slope")
    ]
    return Fixture(json.loads(str(arrays["meta"])), *groups)


def model_config(meta: dict[str, Any]) -> ModelConfig:
    """The hyper-parameters in `meta`; the official files name the attention by its class."""
    names = {field.name for field in dataclasses.fields(ModelConfig)}
    fields = {name: value for name, value in meta.items() if name in names}
    fields["fc_neurons"] = tuple(fields["fc_neurons"])
    if "attention" not in fields:
        dot_product = meta["cls"].startswith("DotProduct")
        fields["attention"] = "dot_product" if dot_product else "mlp"
    return ModelConfig(**fields)


def model_inputs(arrays: Arrays) -> Inputs:
    """The batch in the group `in`; lattice translations from integer offsets and the cells."""
    senders, receivers = arrays["edge_index"]
    shifts: np.ndarray | float = 0.0
    if "cell_offsets" in arrays:
        cells = arrays["cell"][arrays["batch"][senders]]
        shifts = np.einsum("ei,eij->ej", arrays["cell_offsets"], cells)
    return Inputs(
        positions=arrays["pos"],
        atomic_numbers=arrays["z"] if "z" in arrays else arrays["atomic_numbers"],
        graph_index=arrays["batch"],
        senders=senders,
        receivers=receivers,
        shifts=shifts,
        tags=arrays.get("tags"),
        force_input=arrays.get("force"),
        noise_mask=arrays.get("noise_mask"),
    )

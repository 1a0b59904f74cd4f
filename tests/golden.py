"""Reading the official model's fixtures, and turning their descriptions into configurations."""

from __future__ import annotations

import dataclasses
import json
import pathlib
from typing import Any

import jraph
import numpy as np

import equiformer_jax as eqf
from tests.paths import GOLDEN

_PRESETS = {"qm9": "qm9", "md17": "md17_l2", "oc20": "oc20_is2re", "md17_dens": "md17_l2_dens"}
_DROPOUTS = dict.fromkeys(("alpha_drop", "proj_drop", "out_drop", "drop_path_rate"), 0.0)


@dataclasses.dataclass(frozen=True)
class Fixture:
    """One file: what the official model was given, and what it gave back."""

    name: str
    meta: dict[str, Any]
    arrays: dict[str, np.ndarray]

    def group(self, prefix: str) -> dict[str, np.ndarray]:
        start = len(prefix) + 1
        return {key[start:]: x for key, x in self.arrays.items() if key.startswith(prefix + "/")}


def names(folder: str, pattern: str = "*") -> list[str]:
    """Names of the fixtures, none where the folder is absent."""
    return sorted(path.stem for path in (GOLDEN / folder).glob(f"{pattern}.npz"))


def read(folder: str, name: str) -> Fixture:
    return read_file(GOLDEN / folder / f"{name}.npz")


def read_file(path: pathlib.Path) -> Fixture:
    with np.load(path) as file:
        arrays = {key: file[key] for key in file.files if key != "meta"}
        return Fixture(path.stem, json.loads(str(file["meta"])), arrays)


def model_config(fixture: Fixture) -> eqf.EquiformerConfig:
    """The configuration of a whole-model fixture, dropout off."""
    meta = fixture.meta
    known = {field.name for field in dataclasses.fields(eqf.EquiformerConfig)}
    overrides = {key: value for key, value in meta.items() if key in known} | _DROPOUTS
    overrides["attention"] = "dot_product" if meta["cls"].startswith("DotProduct") else "mlp"
    if meta["dataset"] != "md17_dens":
        overrides.pop("use_force_encoding", None)
        overrides.pop("irreps_equivariant_inputs", None)
    return eqf.get_preset(_PRESETS[meta["dataset"]], **overrides)


def model_graph(fixture: Fixture, config: eqf.EquiformerConfig) -> jraph.GraphsTuple:
    """The batch of a whole-model fixture, edges found anew."""
    inputs = fixture.group("in")
    numbers = inputs["z" if "z" in inputs else "atomic_numbers"].astype(int)
    graphs = []
    for index in range(int(inputs["batch"].max()) + 1):
        mask = inputs["batch"] == index
        options: dict[str, Any] = {}
        if "tags" in inputs:
            options["tags"] = inputs["tags"][mask]
        if "cell_offsets" in inputs:
            options |= {"cell": inputs["cell"][index], "pbc": (True, True, True)}
        structure = eqf.Structure(inputs["pos"][mask], numbers[mask], **options)
        graph = eqf.build_graph(structure, config.max_radius, fixture.meta.get("max_neighbors"))
        if "noise_mask" in inputs:
            noisy = {
                "force_input": inputs["force"],
                "noise_mask": inputs["noise_mask"].astype(bool),
            }
            graph = graph._replace(nodes=graph.nodes | {k: x[mask] for k, x in noisy.items()})
        graphs.append(graph)
    return eqf.batch_graphs(graphs)


def relative_error(ours: Any, official: Any) -> float:
    """Largest deviation over largest magnitude."""
    ours, official = np.asarray(ours, float).ravel(), np.asarray(official, float).ravel()
    return float(np.abs(ours - official).max() / max(1e-12, np.abs(official).max()))

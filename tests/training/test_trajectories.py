"""Training as the official release trained: from its weights, on its batches, step by step."""

from __future__ import annotations

import dataclasses
import json

import jax
import numpy as np
import pytest

import equiformer_jax as eqf
from equiformer_jax.data import batching
from equiformer_jax.data.graph_building import build_graph_store
from equiformer_jax.training import cosine_epoch_schedule, make_optimizer
from equiformer_jax.training.objectives import EnergyForceObjective
from equiformer_jax.training.optimizer import decay_mask
from equiformer_jax.training.sharding import make_data_mesh, place_batch, replicate
from equiformer_jax.training.state import create_train_state
from equiformer_jax.training.step import make_predict, make_train_step
from tests.paths import GOLDEN, needs_golden

TOLERANCE = 1e-6
# Constants of the exponential basis, which the official files list beside its parameters.
BUFFERS = {"rbf.means", "rbf.betas"}


class Trajectory:
    """One file of training steps of the official release, in float64."""

    def __init__(self, name):
        self.arrays = np.load(GOLDEN / "trajectory" / f"{name}.npz")
        self.meta = json.loads(str(self.arrays["meta"]))

    def group(self, name):
        prefix = f"{name}/"
        return {
            key.removeprefix(prefix): self.arrays[key]
            for key in self.arrays.files
            if key.startswith(prefix)
        }

    @property
    def has_forces(self):
        return "in/forces" in self.arrays.files

    def config(self):
        fields = {field.name for field in dataclasses.fields(eqf.EquiformerConfig)}
        overrides = {key: value for key, value in self.meta.items() if key in fields}
        if self.meta["cls"].startswith("DotProduct"):
            overrides["attention"] = "dot_product"
        return eqf.get_preset("md17_l2" if self.has_forces else "qm9", **overrides)

    def structures(self):
        data = self.group("in")
        if self.has_forces:
            rows = zip(data["positions"], data["energies"], data["forces"], strict=True)
            return [
                eqf.Structure(p, data["atomic_numbers"], energy=e, forces=f) for p, e, f in rows
            ]
        ends = np.cumsum(data["n_atoms"])[:-1]
        rows = zip(
            np.split(data["positions"], ends),
            np.split(data["atomic_numbers"], ends),
            data["target"],
            strict=True,
        )
        return [eqf.Structure(p, z, energy=y) for p, z, y in rows]

    def objective(self):
        meta = self.meta
        if self.has_forces:
            return meta["energy_mean"], EnergyForceObjective(
                meta["energy_std"], meta["energy_weight"], meta["force_weight"]
            )
        return meta["target_mean"], EnergyForceObjective(meta["target_std"])

    def optimizer(self):
        meta = self.meta
        schedule = cosine_epoch_schedule(
            meta["lr0"],
            meta["warmup_epochs"],
            meta["epochs"],
            meta["steps_per_epoch"],
            meta["warmup_lr"],
            meta["min_lr"],
        )
        return make_optimizer(schedule, meta["weight_decay"])

    def batches(self, mean, max_radius):
        """The batches of one epoch, in the order of the file."""
        source = build_graph_store(self.structures(), max_radius).relative_to(mean)
        size = self.meta["batch_size"]
        parts = np.arange(len(source)).reshape(self.meta["steps_per_epoch"], 1, size)
        budget = batching.budget_for(parts, source.sizes)
        return [
            batching.stack_for_devices(
                [batching.pack([source[i] for i in part], budget, source[0]) for part in step]
            )
            for step in parts
        ]


@needs_golden
@pytest.mark.parametrize(
    "name",
    [
        "md17_l2_nonlinear",
        pytest.param("md17_l2_dot_product", marks=pytest.mark.slow),
        "qm9_alpha",
    ],
)
def test_losses_and_weights_follow_the_official_release(name):
    trajectory = Trajectory(name)
    config, mesh = trajectory.config(), make_data_mesh(1)
    model = eqf.Equiformer(config)
    mean, objective = trajectory.objective()
    optimizer = trajectory.optimizer()
    params = eqf.variables_from_torch(trajectory.group("param"), config)["params"]
    state = replicate(create_train_state(params, optimizer, jax.random.key(0)), mesh)
    step = make_train_step(make_predict(model, objective.needs_forces), optimizer, objective, mesh)
    batches = [place_batch(graph, mesh) for graph in trajectory.batches(mean, config.max_radius)]

    losses = []
    for _ in range(trajectory.meta["epochs"]):
        for graph in batches:
            state, means = step(state, graph)
            losses.append(float(means["loss"].value))

    np.testing.assert_allclose(losses, trajectory.arrays["out/loss"], rtol=TOLERANCE)
    ours = eqf.variables_to_torch({"params": state.params}, config)
    for key, expected in trajectory.group("final").items():
        scale = max(np.abs(expected).max(), 1e-8)
        np.testing.assert_allclose(ours[key] / scale, expected / scale, atol=TOLERANCE, err_msg=key)


@needs_golden
@pytest.mark.parametrize("name", ["md17_l2_nonlinear", "md17_l2_dot_product", "qm9_alpha"])
def test_decay_groups_are_those_of_the_official_release(name):
    trajectory = Trajectory(name)
    config = trajectory.config()
    params = eqf.variables_from_torch(trajectory.group("param"), config)["params"]
    # Ones where a parameter decays and zeros elsewhere, told in official names.
    marks = jax.tree.map(
        lambda decays, leaf: np.full(leaf.shape, float(decays)), decay_mask(params), params
    )
    official = eqf.variables_to_torch({"params": marks}, config)
    decayed = {key for key, value in official.items() if np.all(value)}
    assert decayed - BUFFERS == set(trajectory.meta["decayed"])
    kept = {key for key, value in official.items() if not np.any(value)}
    assert decayed | kept == official.keys()

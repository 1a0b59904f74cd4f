"""Outputs of batches, put back into the order of the split and into their units."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from equiformer_jax.data.pipeline import EvaluationBatches, HostDevices
from equiformer_jax.data.structures import StructureList
from equiformer_jax.training import evaluation
from equiformer_jax.training.objectives.means import Mean
from equiformer_jax.training.sharding import make_data_mesh
from tests.training.small_potential import random_source

SCALE = 2.0


def echo(params, graph):
    """Outputs that tell of which atom or structure they are: sums of its label."""
    graph = jax.tree.map(lambda leaf: leaf[0], graph)
    energy, forces = graph.globals["energy"], graph.nodes["forces"]
    outputs = {
        "energy": energy,
        "forces": forces,
        "stress": energy[:, None, None] * jnp.eye(3),
        "displacement": 3 * forces,
        "denoising": forces,
        "spread_energy": 5 * energy,
        "spread_forces": 7 * forces,
    }
    means = {"loss": Mean(jnp.zeros(()), jnp.ones((), jnp.int32))}
    return means, jax.tree.map(lambda leaf: leaf[None], outputs)


def evaluated(source, devices):
    """The batches come in another order than the structures."""
    batches = list(EvaluationBatches(source, batch_size=4, devices=devices))
    return evaluation.evaluate_split(
        echo,
        {},
        reversed(batches),
        make_data_mesh(1),
        store=source,
        scale=SCALE,
        structures=StructureList([], "not looked at"),
        split="test",
    )


def assert_complete(found, source):
    energies, forces = SCALE * source.energies(), SCALE * source.arrays["nodes.forces"]
    for name, expected in {
        "predicted_energies": source.references + energies,
        "predicted_forces": forces,
        "predicted_stress": energies[:, None, None] * np.eye(3),
        "predicted_displacements": 3 * forces / SCALE,  # in a unit of their own
        "spread_energies": 5 * energies,
        "spread_forces": 7 * forces,
    }.items():
        np.testing.assert_allclose(getattr(found, name), expected, err_msg=name)


def test_every_output_is_in_the_order_of_the_split_and_in_its_unit():
    source = random_source()
    assert_complete(evaluated(source, HostDevices(1)), source)


def test_processes_share_all_that_each_has_found(monkeypatch):
    source = random_source()
    told = []

    def exchange(value):
        told.append(value)
        return told

    monkeypatch.setattr(evaluation, "exchange", exchange)
    first = evaluated(source, HostDevices(2, host_index=0, num_hosts=2))
    assert np.isnan(first.predicted_energies).any() and np.isnan(first.predicted_stress).any()
    assert_complete(evaluated(source, HostDevices(2, host_index=1, num_hosts=2)), source)

from __future__ import annotations

import jax
import numpy as np
import pytest

from equiformer_jax.data.augmentation import DenoisingCorruption
from equiformer_jax.data.batching import pack
from equiformer_jax.data.budgets import rounded_budget
from equiformer_jax.data.embedded.aspirin import load_embedded_aspirin
from equiformer_jax.graph import build_graph
from experiments.configs import extxyz, md17, md22, oc20_is2re, qm9, quickstart
from experiments.tpu.abstract_batch import abstract_batch, example_graph, part_budget
from experiments.tpu.abstract_step import build_step, structures_per_part
from experiments.tpu.chips import CHIPS, Topology
from experiments.tpu.sizes import DATASETS, SYSTEMS, StructureSize, typical_size
from tests.experiments.tpu.tiny import SIZE, cpu_topology, make_tiny

CONFIGS = {
    "md17": md17.get_config("aspirin"),
    "dens": md17.get_config("aspirin,dens"),
    "md22": md22.get_config("AT-AT"),
    "qm9": qm9.get_config("alpha"),
    "oc20_aux": oc20_is2re.get_config("aux_interpolation"),
    "files": extxyz.get_config("mine.xyz"),
}


def shapes(graph):
    return jax.tree.map(lambda leaf: (leaf.shape, str(leaf.dtype)), graph)


def test_a_batch_has_the_arrays_and_shapes_of_a_real_one(float32_mode):
    config = quickstart.get_config()
    frames = load_embedded_aspirin()["train"][:3]
    graphs = [build_graph(frame, config.model.max_radius) for frame in frames]
    budget = rounded_budget(3 * 21, sum(int(g.n_edge[0]) for g in graphs), 3)
    real = pack(graphs, budget, graphs[0])
    assert shapes(abstract_batch(example_graph(config), budget, ())) == shapes(real)
    stacked = jax.tree.map(lambda leaf: np.stack([leaf] * 4), real)
    assert shapes(abstract_batch(example_graph(config), budget, (4,))) == shapes(stacked)


def test_augmented_batches_have_what_the_augmentation_adds(float32_mode):
    nodes = example_graph(CONFIGS["dens"]).nodes
    frame = load_embedded_aspirin()["train"][0]
    _, arrays = DenoisingCorruption()(frame, np.random.default_rng(0))
    assert nodes.keys() >= arrays.keys()
    assert nodes["noise_mask"].dtype == bool
    assert nodes["force_input"].dtype == np.float32


@pytest.mark.parametrize("name", ["md17", "dens", "qm9", "oc20_aux"])
def test_the_step_of_every_kind_of_configuration_can_be_traced(name, float32_mode):
    """Losses and models read what batches of that data set hold."""
    step = build_step(make_tiny(CONFIGS[name]), cpu_topology(), SIZE)
    new_state, means = jax.eval_shape(step.function, step.state, step.batch)
    assert shapes(new_state) == shapes(step.state)
    assert "loss" in means
    assert step.parameters == sum(leaf.size for leaf in jax.tree.leaves(step.state.params))


def test_micro_batches_and_ensembles_have_their_axes(float32_mode):
    config = make_tiny(CONFIGS["qm9"])
    config.training.accumulate = 2
    config.training.ensemble = 3
    config.optimizer.ema_decay = 0.99
    step = build_step(config, cpu_topology(), SIZE)
    assert step.batch.n_node.shape[:2] == (1, 2)
    assert step.structures == 4
    state, _ = jax.eval_shape(step.function, step.state, step.batch)
    assert all(leaf.shape[0] == 3 for leaf in jax.tree.leaves(state.ema_params))


@pytest.mark.parametrize(
    ("batch_size", "accumulate", "parts", "expected"),
    [(8, 1, 8, 1), (8, 1, 64, 1), (8, 1, 1, 8), (9, 1, 8, 2), (32, 2, 4, 4)],
)
def test_a_batch_is_divided_and_every_part_has_a_structure(batch_size, accumulate, parts, expected):
    config = quickstart.get_config()
    config.training.batch_size = batch_size
    config.training.accumulate = accumulate
    assert structures_per_part(config, parts) == expected


def test_edge_parts_must_divide_the_chips():
    config = make_tiny(CONFIGS["md17"])
    config.mesh.edge_parts = 3
    topology = Topology("v5e:2x4", CHIPS["v5e"], tuple(jax.devices()) * 8)
    with pytest.raises(ValueError, match="edge_parts=3"):
        build_step(config, topology, SIZE)


def test_sizes_are_those_of_the_table_or_given():
    assert typical_size(CONFIGS["md22"].data) == SYSTEMS["AT-AT"]
    assert typical_size(CONFIGS["qm9"].data) == DATASETS["qm9"]
    assert typical_size(CONFIGS["files"].data, 10, 90) == StructureSize(10, 90, "given")
    mixed = typical_size(CONFIGS["md17"].data, edges=400)
    assert (mixed.atoms, mixed.edges) == (21, 400)
    with pytest.raises(ValueError, match="of 'files' is not known: give atoms and edges"):
        typical_size(CONFIGS["files"].data, atoms=5)
    with pytest.raises(ValueError, match="atoms=0; expected at least 1"):
        typical_size(CONFIGS["md17"].data, atoms=0)


@pytest.mark.parametrize(("atoms", "edges", "structures"), [(21, 304, 1), (80, 2709, 4)])
def test_parts_are_padded_as_in_training(atoms, edges, structures):
    budget = part_budget(StructureSize(atoms, edges, ""), structures)
    assert budget.holds(atoms * structures, edges * structures, structures)
    assert budget.n_edge % 64 == 0


@pytest.mark.parametrize("table", [DATASETS, SYSTEMS])
def test_sizes_of_the_table_are_possible(table):
    for size in table.values():
        assert 0 < size.edges <= size.atoms * 60

from __future__ import annotations

import dataclasses
import functools
import multiprocessing

import jax
import numpy as np
import pytest

from equiformer_jax import Structure, build_graph
from equiformer_jax.data import batching
from equiformer_jax.data.augmentation import DenoisingCorruption
from equiformer_jax.data.graph_building import build_graph_store
from equiformer_jax.data.pipeline import AugmentedStructures, HostDevices, TrainingBatches
from equiformer_jax.data.structures import StructureList
from tests.data.small_structures import CUTOFF, OFFSET, WithBrokenRecord, molecules
from tests.data.test_graph_store import assert_same_trees
from tests.data.test_pipeline import BATCH, assert_same_batches

CORRUPTION = DenoisingCorruption(probability=0.7, atom_share=0.6, std=0.3)
STRUCTURES = StructureList(molecules(22), "molecules")
NUM_ATOMS = np.array([structure.num_atoms for structure in STRUCTURES])
ONE_DEVICE = HostDevices(1)


def unchanged(structure, generator):
    return structure, {}


def squeezed(factor, structure, generator):
    """Nearer atoms have more neighbors."""
    return dataclasses.replace(structure, positions=factor * structure.positions), {}


def stream(augment, devices=ONE_DEVICE, structures=STRUCTURES, **settings):
    store = build_graph_store(STRUCTURES, CUTOFF).relative_to(OFFSET)
    source = AugmentedStructures(structures, augment, CUTOFF, **settings)
    sizes = source.sizes_with_headroom(store.sizes)
    budgets = batching.choose_budgets(sizes, BATCH, devices.num_devices)
    return TrainingBatches(
        store, budgets, batch_size=BATCH, devices=devices, seed=1, augmented=source
    )


@pytest.mark.parametrize("x64", [False, True])
@pytest.mark.parametrize("num_devices", [1, 2, 5])
def test_without_a_change_batches_are_those_of_the_store(num_devices, x64):
    with jax.enable_x64(x64):
        made = stream(unchanged, HostDevices(num_devices), headroom=0.0)
        stored = TrainingBatches(
            made._store,
            made._budgets,
            batch_size=BATCH,
            devices=HostDevices(num_devices),
            seed=1,
        )
        assert_same_batches(made.epoch(2), stored.epoch(2))


def test_graphs_are_those_of_the_changed_structures():
    for batch in stream(CORRUPTION).epoch(3):
        graph = jax.tree.map(lambda leaf: leaf[0], batch.graph)
        expected = []
        for index in batch.indices[0].tolist():
            draws = np.random.SeedSequence(1, spawn_key=(3, index))
            structure, arrays = CORRUPTION(STRUCTURES[index], np.random.default_rng(draws))
            structure = dataclasses.replace(structure, energy=structure.energy - OFFSET)
            single = build_graph(structure, CUTOFF)
            expected.append(single._replace(nodes={**single.nodes, **arrays}))
        budget = batching.Budget(len(graph.senders), len(graph.nodes["noise"]), len(graph.n_node))
        assert_same_trees(graph, batching.pack(expected, budget, expected[0]))


def test_every_epoch_changes_a_structure_anew_and_every_run_alike():
    def noise_by_structure(epoch, first_step=0):
        noises = {}
        for batch in stream(CORRUPTION).epoch(epoch, first_step):
            counts = NUM_ATOMS[batch.indices[0]]
            noise = batch.graph.nodes["noise"][0][: counts.sum()]
            noises |= dict(
                zip(batch.indices[0].tolist(), np.split(noise, np.cumsum(counts)[:-1]), strict=True)
            )
        return noises

    first, again, resumed, later = (
        noise_by_structure(*arguments) for arguments in ((0,), (0,), (0, 2), (1,))
    )
    assert all(np.array_equal(first[i], again[i]) for i in first)
    assert all(np.array_equal(first[i], resumed[i]) for i in resumed)
    common = [i for i in first.keys() & later.keys() if first[i].any()]
    assert len(common) > 5
    assert not any(np.array_equal(first[i], later[i]) for i in common)


def test_processes_do_not_matter():
    """Nor does what they lack of this process's settings: the type of floats."""
    with jax.enable_x64(False):
        assert_same_batches(
            stream(CORRUPTION, num_workers=2).epoch(1, 1), stream(CORRUPTION).epoch(1, 1)
        )
    assert not multiprocessing.active_children()


def test_an_error_in_a_process_keeps_its_message():
    broken = WithBrokenRecord(molecules(22), broken=4)
    with (
        pytest.raises(ValueError, match="broken.npz: record 4: 'F': not finite"),
        stream(CORRUPTION, structures=broken, num_workers=1).epoch(0) as batches,
    ):
        list(batches)


def test_a_structure_that_falls_apart_is_named():
    apart = functools.partial(squeezed, 1000.0)
    with pytest.raises(ValueError, match=r"molecules: structure \d+: a graph without edges"):
        next(stream(apart).epoch(0))


def test_arrays_of_an_augmentation_take_the_types_of_graphs():
    def tell(structure, generator):
        count = structure.num_atoms
        return structure, {
            "float": np.ones(count),
            "integer": np.ones(count, np.int64),
            "mask": np.ones(count, bool),
        }

    with jax.enable_x64(False):
        nodes = next(stream(tell).epoch(0)).graph.nodes
    assert nodes["float"].dtype == np.float32
    assert nodes["integer"].dtype == np.int32
    assert nodes["mask"].dtype == bool


def rows(count=22, atoms=40):
    """Atoms in a row, each with two neighbors; squeezed, each has many."""
    positions = np.arange(atoms)[:, None] * np.array([1.0, 0, 0])
    return StructureList([Structure(positions, np.ones(atoms))] * count, "rows")


def squeezed_rows(devices, factor, headroom=0.1):
    store = build_graph_store(rows(), 1.5)
    source = AugmentedStructures(
        rows(), functools.partial(squeezed, factor), 1.5, headroom=headroom
    )
    budgets = batching.choose_budgets(source.sizes_with_headroom(store.sizes), BATCH, 2)
    batches = TrainingBatches(
        store, budgets, batch_size=BATCH, devices=devices, seed=0, augmented=source
    )
    return budgets, batches


def test_a_batch_that_fits_no_budget_gets_a_larger_one():
    budgets, batches = squeezed_rows(HostDevices(2), 0.3)
    shapes = {batch.graph.senders.shape for batch in batches.epoch(0)}
    ((devices, n_edge),) = shapes  # of all batches: few compilations
    assert devices == 2
    assert n_edge > budgets[-1].n_edge


def test_several_hosts_take_the_safe_budget_for_every_batch():
    budgets, batches = squeezed_rows(HostDevices(2, 1, 2), 2.0 / 3.1, headroom=3.0)
    assert {batch.graph.senders.shape for batch in batches.epoch(0)} == {(1, budgets[-1].n_edge)}


def test_several_hosts_cannot_grow_a_budget():
    _, batches = squeezed_rows(HostDevices(2, 1, 2), 0.3)
    with pytest.raises(ValueError, match=r"several hosts cannot agree.*a data.headroom above 0.1"):
        next(batches.epoch(0))


def test_hosts_without_a_graph_of_their_own_get_padding():
    devices = HostDevices(8, 1, 2)
    batch = next(stream(CORRUPTION, devices, headroom=1.0).epoch(0))
    assert batch.graph.n_node.shape[0] == 4
    alone = [next(stream(CORRUPTION, HostDevices(8, h, 2), headroom=1.0).epoch(0)) for h in (0, 1)]
    assert sum(len(part) for b in alone for part in b.indices) == BATCH

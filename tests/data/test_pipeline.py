from __future__ import annotations

import itertools

import jax
import numpy as np
import pytest

from equiformer_jax import Structure
from equiformer_jax.data.batching import choose_budgets
from equiformer_jax.data.pipeline import (
    EvaluationBatches,
    GraphSource,
    steps_per_epoch,
    training_batches,
)

OFFSET = -17000.0  # eV; total energies are this large, and float32 is coarse there


@pytest.fixture(scope="module")
def source():
    generator = np.random.default_rng(0)
    structures = []
    for index in range(22):
        count = 3 + index % 4
        positions = np.arange(count)[:, None] + 0.1 * generator.normal(size=(count, 3))
        structures.append(
            Structure(
                positions,
                np.full(count, 1),
                energy=OFFSET + 1e-4 * index,
                forces=np.full((count, 3), float(index)),
            )
        )
    return GraphSource(structures, cutoff=5.0)


def stream(source, num_devices=1, **arguments):
    settings = {"batch_size": 4, "num_devices": num_devices, "seed": 1, "epoch": 0} | arguments
    return training_batches(source, choose_budgets(source.sizes, 4, num_devices), **settings)


def order_of(batches):
    return [sorted(np.concatenate(batch.indices).tolist()) for batch in batches]


def test_an_epoch_visits_no_structure_twice_and_drops_the_rest(source):
    batches = order_of(stream(source))
    visited = list(itertools.chain(*batches))
    assert [len(batch) for batch in batches] == [4] * 5
    assert len(set(visited)) == 20


def test_order_is_a_function_of_seed_and_epoch_alone(source):
    assert order_of(stream(source, epoch=3)) == order_of(stream(source, epoch=3))
    assert order_of(stream(source, epoch=3)) != order_of(stream(source, epoch=4))
    assert order_of(stream(source, seed=2)) != order_of(stream(source, seed=1))


def test_devices_do_not_change_what_a_step_sees(source):
    assert order_of(stream(source)) == order_of(stream(source, num_devices=3))


def test_an_epoch_can_be_taken_up_in_its_middle(source):
    assert order_of(stream(source, first_step=2)) == order_of(stream(source))[2:]


def test_batches_of_one_budget_have_one_shape(source):
    (budget,) = choose_budgets(source.sizes, 4, 2)[-1:]
    batches = training_batches(source, [budget], batch_size=4, num_devices=2, seed=0, epoch=0)
    shapes = {tuple(leaf.shape for leaf in jax.tree.leaves(b.graph)) for b in batches}
    assert len(shapes) == 1


@pytest.mark.parametrize("num_devices", [1, 3])
@pytest.mark.parametrize("batch_size", [4, 5, 30])
def test_evaluation_covers_every_structure_exactly_once(source, num_devices, batch_size):
    batches = EvaluationBatches(source, batch_size=batch_size, num_devices=num_devices)
    seen = []
    for batch in batches:
        assert batch.graph.n_node.shape == (num_devices, batches.budget.n_graph)
        for device, indices in enumerate(batch.indices):
            seen += indices.tolist()
            # The force label of this data set is the index of the structure.
            forces = batch.graph.nodes["forces"][device]
            expected = np.repeat(indices, source.sizes.nodes[indices])
            np.testing.assert_array_equal(forces[: len(expected), 0], expected)
    assert sorted(seen) == list(range(22))


def test_splits_can_share_a_shape(source):
    large = EvaluationBatches(source, batch_size=8, num_devices=1)
    small = EvaluationBatches(source, batch_size=4, num_devices=1).padded_to(large.budget)
    assert small[0].graph.senders.shape == large[0].graph.senders.shape


@pytest.mark.usefixtures("float32_mode")
def test_references_go_off_before_energies_are_rounded(source):
    structures = [
        Structure([[0.0, 0, 0], [1, 0, 0]], [1, 1], energy=OFFSET + 1e-4 * index)
        for index in range(3)
    ]
    relative = GraphSource(structures, cutoff=5.0).relative_to(OFFSET)
    energies = np.concatenate([graph.globals["energy"] for graph in relative])
    assert energies.dtype == np.float32
    np.testing.assert_allclose(energies, [0, 1e-4, 2e-4], rtol=1e-6)


def test_graphs_are_built_once(source):
    assert source.relative_to(OFFSET)[5].senders is source[5].senders


def test_too_few_structures_for_a_batch_are_an_error():
    assert steps_per_epoch(23, 8) == 2
    with pytest.raises(ValueError, match="7 training structures do not fill one batch of 8"):
        steps_per_epoch(7, 8)


def test_a_structure_without_neighbors_is_named():
    near, far = ([[0.0, 0, 0], [x, 0, 0]] for x in (1.0, 9.0))
    structures = [Structure(positions, [1, 1]) for positions in (near, far)]
    with pytest.raises(ValueError, match="structure 1"):
        GraphSource(structures, cutoff=5.0)


def test_no_structures_are_an_error():
    with pytest.raises(ValueError, match="at least one structure"):
        GraphSource([], cutoff=5.0)

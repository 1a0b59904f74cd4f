from __future__ import annotations

import jax
import numpy as np
import pytest

from equiformer_jax.data import batching
from equiformer_jax.data.graph_building import build_graph_store
from equiformer_jax.data.graph_packing import pack_from_store, pack_parts
from tests.data.small_structures import CUTOFF, molecules, slabs
from tests.data.test_graph_store import assert_same_trees


@pytest.mark.parametrize("x64", [False, True])
@pytest.mark.parametrize("indices", [[3], [6, 0, 2], [], [1, 1]])
@pytest.mark.parametrize("make", [molecules, slabs])
def test_packing_is_that_of_the_graphs(make, indices, x64):
    with jax.enable_x64(x64):
        store = build_graph_store(make(7), CUTOFF).relative_to(np.arange(7.0))
        budget = batching.Budget(n_edge=1000, n_node=40, n_graph=6)
        packed = pack_from_store(store, np.array(indices, int), budget)
        expected = batching.pack([store[i] for i in indices], budget, store[0])
    assert_same_trees(packed, expected)


def test_parts_of_devices_are_stacked():
    store = build_graph_store(molecules(), CUTOFF)
    parts = [np.array([3, 1]), np.array([], int), np.array([7])]
    budget = batching.budget_for([parts], store.sizes)
    expected = [batching.pack([store[i] for i in part], budget, store[0]) for part in parts]
    assert_same_trees(pack_parts(store, parts, budget), batching.stack_for_devices(expected))


def test_nothing_is_shared_with_the_store():
    """Devices may read a batch while the next one is made."""
    store = build_graph_store(molecules(), CUTOFF)
    budget = batching.budget_for([[np.array([0])]], store.sizes)
    first, second = (pack_from_store(store, np.array([0]), budget) for _ in range(2))
    for leaf, other in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True):
        assert not np.shares_memory(leaf, other)
        assert not any(np.shares_memory(leaf, array) for array in store.arrays.values())


def test_graphs_that_do_not_fit_are_named():
    store = build_graph_store(molecules(), CUTOFF)
    with pytest.raises(ValueError, match=r"graphs \[0, 3\] with 9 atoms and .* do not fit"):
        pack_from_store(store, np.array([0, 3]), batching.Budget(n_edge=99, n_node=9, n_graph=3))

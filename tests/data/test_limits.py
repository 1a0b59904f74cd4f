from __future__ import annotations

import pytest

from equiformer_jax.data.budgets import Budget
from equiformer_jax.data.limits import check_limits
from tests.data.size_samples import sizes_of

SIZES = sizes_of((2, 2), (40, 78), (20, 380))


def name_of(index):
    return f"data.xyz: frame {index}"


def test_without_limits_everything_may_be_as_large_as_it_is():
    check_limits(SIZES, name_of, None, None, [Budget(10**9, 10**9, 10**9)])


def test_what_just_fits_is_accepted():
    check_limits(SIZES, name_of, 48, 384, [Budget(n_edge=384, n_node=48, n_graph=3)])


@pytest.mark.parametrize(
    ("max_nodes", "max_edges", "message"),
    [
        (
            47,
            None,
            "data.xyz: frame 1 with 40 atoms and 78 edges needs a budget of 48 nodes and 128 edges "
            "on a device, but no more than 47 nodes are allowed",
        ),
        (
            None,
            300,
            "data.xyz: frame 2 with 20 atoms and 380 edges needs a budget of 24 nodes and 384 "
            "edges on a device, but no more than 300 edges are allowed",
        ),
    ],
)
def test_a_graph_that_exceeds_a_limit_is_named_with_the_budget_it_needs(
    max_nodes, max_edges, message
):
    with pytest.raises(ValueError, match=message):
        check_limits(SIZES, name_of, max_nodes, max_edges)


def test_a_budget_that_exceeds_a_limit_is_told_with_the_largest_graph():
    budgets = [Budget(128, 48, 3), Budget(512, 72, 3)]
    message = (
        "a batch needs a budget of up to 72 nodes and 512 edges on a device for 2 graphs, the "
        "largest of which is data.xyz: frame 1 with 40 atoms and 78 edges, but no more than 64 "
        "nodes are allowed"
    )
    with pytest.raises(ValueError, match=message):
        check_limits(SIZES, name_of, 64, None, budgets)

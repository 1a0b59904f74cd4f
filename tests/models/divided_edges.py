"""Run in a process of its own by test_divided_edges.py: it needs four devices."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import jraph
import numpy as np
from jax.sharding import AxisType, PartitionSpec

import equiformer_jax as eqf
from equiformer_jax.models import equiformer
from equiformer_jax.models.equiformer import apply_model
from equiformer_jax.models.potential import with_derivatives
from equiformer_jax.ops.segment import (
    gather_to_edges,
    max_to_nodes,
    mean_over_parts,
    sum_to_nodes,
)
from tests.models.test_model_options import random_variables, small_model

PARTS, AXIS = 4, "edge"
MESH = jax.make_mesh((PARTS,), (AXIS,), axis_types=(AxisType.Auto,))
EDGES, WHOLE = PartitionSpec(AXIS), PartitionSpec()
DIVIDED = jraph.GraphsTuple(
    nodes=WHOLE,
    edges=EDGES,
    receivers=EDGES,
    senders=EDGES,
    globals=WHOLE,
    n_node=WHOLE,
    n_edge=WHOLE,
)
DROPOUT = {"alpha_drop": 0.3, "proj_drop": 0.3, "drop_path_rate": 0.2}


def divided(function, *specs):
    """The function on four devices; the same results come from all of them."""
    return jax.jit(
        jax.shard_map(
            lambda *arguments: jax.tree.map(lambda x: x[None], function(*arguments)),
            mesh=MESH,
            in_specs=specs,
            out_specs=EDGES,
            check_vma=False,
        )
    )


def assert_same_everywhere(found, wanted, tolerance=1e-11):
    for x, y in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        assert x.shape == (PARTS, *y.shape)
        assert np.isfinite(y).all()
        # The same bits: replicas must not drift apart.
        assert (np.asarray(x) == np.asarray(x)[0]).all()
        np.testing.assert_allclose(x[0], y, rtol=0, atol=tolerance * max(np.abs(y).max(), 1e-3))


def check_segments():
    """Repeated reverse mode, and forward mode, through gathers, maxima and sums."""
    generator = np.random.default_rng(0)
    receivers, senders = np.repeat(np.arange(5), 4), generator.integers(0, 5, 20)
    nodes, direction = generator.normal(size=(2, 5, 3))

    def potential(nodes, senders, receivers, axis):
        edges = gather_to_edges(nodes, senders) * jnp.sin(gather_to_edges(nodes, receivers))
        highest = max_to_nodes(jax.lax.stop_gradient(edges), receivers, 5, axis)
        edges = edges - gather_to_edges(highest, receivers)
        total = sum_to_nodes(jnp.exp(edges), receivers, 5, axis)
        return jnp.sum(jnp.log(total) * nodes)

    def derivatives(nodes, direction, senders, receivers, axis=None):
        def force(nodes):
            return mean_over_parts(jax.grad(potential)(nodes, senders, receivers, axis), axis)

        def loss(nodes):
            return jnp.sum(force(nodes) ** 3)

        second = mean_over_parts(jax.grad(loss)(nodes), axis)
        _, along = jax.jvp(force, (nodes,), (direction,))
        return force(nodes), second, along

    def in_parts(*arguments):
        return derivatives(*arguments, AXIS)

    arguments = (nodes, direction, senders, receivers)
    found = divided(in_parts, WHOLE, WHOLE, EDGES, EDGES)(*arguments)
    assert_same_everywhere(found, derivatives(*arguments))
    print("derivatives agree", flush=True)


def crystal():
    """A crystal of five atoms; three edges are padding, so that all parts are equally long."""
    generator = np.random.default_rng(0)
    structure = eqf.Structure(
        generator.uniform(0, 4.5, (5, 3)),
        [8, 1, 6, 1, 7],
        cell=np.diag([4.5, 4.7, 5.0]),
        pbc=(True, True, True),
    )
    graph = eqf.build_graph(structure, 3.0)
    num_edges = PARTS * (len(graph.senders) // PARTS + 1)
    return eqf.batch_graphs([graph], n_node=7, n_edge=num_edges, n_graph=2)


def in_training(config, axis=None):
    """Energies, forces, stress, and the gradient of a loss on them."""
    model = eqf.Equiformer(config, axis)

    def results(variables, graph):
        def outputs(graph, variables):
            return apply_model(model, variables, graph, False, {"dropout": jax.random.key(3)})

        def loss(variables):
            found = with_derivatives(lambda moved: outputs(moved, variables), graph, True, axis)
            found = {name: found[name] for name in ("energy", "forces", "stress")}
            return sum(jnp.sum(value**2) for value in found.values()), found

        gradient, found = jax.grad(loss, has_aux=True)(variables)
        return mean_over_parts(gradient, axis), found

    return results


def check_model(block_size):
    """A force loss with every dropout, rescaled by the number of neighbors."""
    config = small_model(
        num_layers=2,
        rescale_degree=True,
        edge_block_size=block_size,
        use_atom_edge_attr=True,
        **DROPOUT,
    ).config
    graph = crystal()
    variables = random_variables(eqf.Equiformer(config), graph)
    wanted = jax.jit(in_training(config))(variables, graph)
    found = divided(in_training(config, AXIS), WHOLE, DIVIDED)(variables, graph)
    assert np.abs(wanted[1]["forces"]).max() > 1e-3
    assert_same_everywhere(found, wanted)
    print(f"{len(graph.senders)} edges agree", flush=True)


def check_what_is_sent():
    """What is computed again for the derivatives is not sent again."""
    config = small_model(num_layers=2).config
    graph = crystal()
    variables = random_variables(eqf.Equiformer(config), graph)

    def count_exchanges():
        step = divided(in_training(config, AXIS), WHOLE, DIVIDED)
        text = str(jax.make_jaxpr(step)(variables, graph))
        return [text.count(name) for name in ("psum[", "pmax[")]

    lean = count_exchanges()
    equiformer.keeping_products = lambda block: block
    jax.clear_caches()
    assert min(lean) > 0
    assert lean == count_exchanges()
    print("nothing is sent twice", flush=True)


if __name__ == "__main__":
    check_segments()
    check_model(block_size=9)
    check_model(block_size=None)
    check_what_is_sent()

"""No NaN and no infinity where geometry degenerates, in values, first and second derivatives.

Training differentiates a loss on forces, so what must be finite is the energy, its gradient with
respect to positions, and the gradient of that with respect to parameters and positions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import jraph
import numpy as np
import pytest

import equiformer_jax as eqf
from equiformer_jax.ops.radial import log_smooth_envelope
from tests.models.small_models import (
    all_outputs,
    assert_close,
    random_variables,
    small_config,
)
from tests.models.small_systems import Budget, System, graph_of, random_system, system_of

CUTOFF = 5.0
BUDGET = Budget(n_node=9, n_edge=44, n_graph=4)

# One block has every kind of layer; features with vectors keep all of its paths alive.
SMALL = {
    "num_layers": 1,
    "irreps_node_embedding": "6x0e+4x1e",
    "irreps_sh": "1x0e+1x1e",
    "irreps_head": "4x0e+2x1e",
    "irreps_mlp_mid": "8x0e+4x1e",
    "irreps_feature": "8x0e+4x1e",
}
DEEPER = {
    "num_layers": 3,
    "irreps_node_embedding": "6x0e+4x1e+2x2e",
    "irreps_sh": "1x0e+1x1e+1x2e",
    "irreps_head": "4x0e+2x1e+2x2e",
}
NONLINEAR = {"attention": "mlp", "nonlinear_message": True}
LINEAR = {"attention": "mlp", "nonlinear_message": False}
DOT_PRODUCT = {"attention": "dot_product", "nonlinear_message": False}
SMOOTH = {"smooth_cutoff": True}
DENOISING = {
    "use_denoising": True,
    "use_force_encoding": True,
    "irreps_equivariant_inputs": "1x0e+1x1e",
}

# Every attention and every basis, with a sharp and with a smooth cutoff; norms and heads in turn.
DEFAULT: dict[str, dict[str, Any]] = {
    "nonlinear_exp": NONLINEAR | {"basis_type": "exp"},
    "nonlinear_bessel_smooth": NONLINEAR | SMOOTH | DENOISING | {"basis_type": "bessel"},
    "linear_gaussian": LINEAR | {"basis_type": "gaussian", "norm_layer": "instance"},
    "linear_exp_smooth": LINEAR | SMOOTH | {"basis_type": "exp", "use_attn_head": True},
    "dot_product_bessel": DOT_PRODUCT | {"basis_type": "bessel", "rescale_degree": True},
    "dot_product_gaussian_smooth": (
        DOT_PRODUCT | SMOOTH | {"basis_type": "gaussian", "norm_layer": "graph"}
    ),
}
# The combinations of attention and basis that are missing above, and higher degrees.
SLOW: dict[str, dict[str, Any]] = {
    "nonlinear_gaussian": NONLINEAR | DEEPER | {"basis_type": "gaussian"},
    "linear_bessel": LINEAR | DEEPER | {"basis_type": "bessel"},
    "dot_product_exp_smooth": DOT_PRODUCT | SMOOTH | DEEPER | {"basis_type": "exp"},
}
FLOAT32_BY_DEFAULT = ("nonlinear_bessel_smooth", "linear_exp_smooth", "dot_product_gaussian_smooth")


class Result(NamedTuple):
    """What must be finite.

    Attributes:
      outputs: energies, forces, vectors.
      parameter_gradient: of a loss on all outputs.
      position_gradient: of the same, `[N, 3]`.
    """

    outputs: dict[str, np.ndarray]
    parameter_gradient: dict
    position_gradient: np.ndarray


class Differentiate:
    """Outputs and gradients of a small model in one precision."""

    def __init__(self, fields: dict[str, Any], dtype: str) -> None:
        self.dtype = dtype
        self.model = eqf.Equiformer(small_config("md17_l2", **(SMALL | fields)))
        example = graph_of(system_of([[0.0, 0, 0], [0, 0, 1]]), CUTOFF)
        self._variables = random_variables(self.model, example, dtype=dtype)
        self._gradients = jax.jit(jax.grad(self._loss, argnums=(0, 1), has_aux=True))

    @property
    def tolerance(self) -> float:
        """Of comparisons in this precision."""
        return 1e-10 if self.dtype == "float64" else 1e-4

    def _loss(
        self, variables: dict, positions: jax.Array, graph: jraph.GraphsTuple
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        moved = graph._replace(nodes={**graph.nodes, "positions": positions})
        outputs = all_outputs(self.model, variables, moved)
        return sum(jnp.sum(values**2) for values in outputs.values()), outputs

    def __call__(self, graph: jraph.GraphsTuple) -> Result:
        with jax.enable_x64(self.dtype == "float64"):
            graph = jax.tree.map(jnp.asarray, graph)
            gradients, outputs = self._gradients(self._variables, graph.nodes["positions"], graph)
        assert all(values.dtype == self.dtype for values in outputs.values())
        return Result(*jax.tree.map(np.asarray, (outputs, *gradients)))


@pytest.fixture(scope="module")
def differentiate(request: pytest.FixtureRequest) -> Differentiate:
    """All tests of one model run one after another and share what is compiled."""
    name, dtype = request.param
    return Differentiate((DEFAULT | SLOW)[name], dtype)


def models(
    wanted: Callable[[dict[str, Any]], bool] = lambda fields: True,
    dtypes: Sequence[str] = ("float64", "float32"),
) -> pytest.MarkDecorator:
    """Runs a test with every model whose fields are wanted."""
    cases = []
    for name, fields in (DEFAULT | SLOW).items():
        for dtype in dtypes if wanted(fields) else ():
            in_default = name in DEFAULT and (dtype == "float64" or name in FLOAT32_BY_DEFAULT)
            marks = () if in_default else pytest.mark.slow
            cases.append(pytest.param((name, dtype), id=f"{name}-{dtype}", marks=marks))
    return pytest.mark.parametrize("differentiate", cases, indirect=True, scope="module")


def assert_finite(result: Result) -> None:
    for path, values in jax.tree_util.tree_leaves_with_path(result):
        assert np.isfinite(values).all(), jax.tree_util.keystr(path)


def assert_equal(
    differentiate: Differentiate, actual: Result, expected: Result, atoms: int, graphs: int = 1
) -> None:
    """The first graphs and their atoms have the same outputs."""
    for name, values in expected.outputs.items():
        count = graphs if name == "energy" else atoms
        assert_close(actual.outputs[name][:count], values[:count], differentiate.tolerance)


# --- Where geometry degenerates ---


def molecule() -> System:
    return random_system(np.random.default_rng(2), periodic=False, size=4)


def single_atom() -> System:
    return system_of([[1.0, 2.0, 3.0]])


def with_edges(graph: jraph.GraphsTuple, pairs: Sequence[tuple[int, int]]) -> jraph.GraphsTuple:
    """Adds edges (sender, receiver) to a graph."""
    added = np.array(pairs, np.int32)
    senders = np.concatenate([graph.senders, added[:, 0]])
    receivers = np.concatenate([graph.receivers, added[:, 1]])
    order = np.argsort(receivers, kind="stable")
    return graph._replace(
        senders=senders[order], receivers=receivers[order], n_edge=graph.n_edge + len(added)
    )


def without_edges(system: System) -> jraph.GraphsTuple:
    graph = graph_of(system, CUTOFF)
    none = np.zeros(0, np.int32)
    return graph._replace(senders=none, receivers=none, n_edge=0 * graph.n_edge)


def batch(*graphs: jraph.GraphsTuple | System) -> jraph.GraphsTuple:
    """A padded batch of graphs, or of systems with the edges that they have."""
    return eqf.batch_graphs(
        [graph_of(g, CUTOFF) if isinstance(g, System) else g for g in graphs], *BUDGET
    )


def pair_of_atoms(distance: float, axis: int = 0) -> System:
    return system_of([[0, 0, 0], distance * np.eye(3)[axis]])


def pair(distance: float, axis: int = 0) -> jraph.GraphsTuple:
    """Two atoms that see each other, whatever their distance, and nobody else."""
    return with_edges(without_edges(pair_of_atoms(distance, axis)), [(1, 0), (0, 1)])


def isolated_atom_in_a_batch() -> jraph.GraphsTuple:
    return batch(molecule(), single_atom())


def isolated_atom_in_a_molecule() -> jraph.GraphsTuple:
    return batch(system_of([*molecule().positions, [30.0, 0, 0]]))


def one_atom() -> jraph.GraphsTuple:
    return batch(single_atom())


def no_edges() -> jraph.GraphsTuple:
    return batch(without_edges(molecule()))


def coincident_padding() -> jraph.GraphsTuple:
    """Edges between different padding atoms, all of which are in one place."""
    graph = batch(molecule())
    first, atoms = graph.n_edge[0], graph.n_node[0]
    senders, receivers = graph.senders.copy(), graph.receivers.copy()
    senders[first:], receivers[first:] = atoms, atoms + 1
    return graph._replace(senders=senders, receivers=receivers)


def edges_to_themselves() -> jraph.GraphsTuple:
    return batch(with_edges(graph_of(molecule(), CUTOFF), [(0, 0), (2, 2)]))


def coincident_atoms() -> jraph.GraphsTuple:
    """Two atoms in one place, with a third, and without anybody else."""
    together = [[1.0, 1, 1], [1, 1, 1]]
    return batch(system_of([*together, [2, 1, 0]]), system_of(together))


def along_all_axes() -> jraph.GraphsTuple:
    """Edges exactly along all six directions of the axes."""
    return batch(system_of([[0, 0, 0], *(1.2 * np.eye(3)), *(-1.2 * np.eye(3))]))


def along_one_axis() -> jraph.GraphsTuple:
    return batch(*(pair(1.1, axis) for axis in range(3)))


def nearly_zero_vectors() -> jraph.GraphsTuple:
    return batch(system_of([[0, 0, 0], [0, 1e-7, 0], [1, 1, 0]]), pair(1e-7), pair(2e-4))


def at_the_cutoff() -> jraph.GraphsTuple:
    """With other neighbors, and without."""
    three = without_edges(system_of([[0, 0, 0], [0, CUTOFF, 0], [0, 1, 0]]))
    return batch(pair(CUTOFF), with_edges(three, [(1, 0), (2, 0), (0, 1), (2, 1), (0, 2), (1, 2)]))


def just_inside_the_cutoff() -> jraph.GraphsTuple:
    return batch(*(pair(CUTOFF - gap) for gap in (1e-3, 1e-4, 1e-5)))


def around_the_cutoff() -> jraph.GraphsTuple:
    return batch(*(pair(CUTOFF - gap) for gap in (1e-6, 1e-9, -1e-6)))


SCENES = (
    isolated_atom_in_a_batch,
    isolated_atom_in_a_molecule,
    one_atom,
    no_edges,
    coincident_padding,
    edges_to_themselves,
    coincident_atoms,
    along_all_axes,
    along_one_axis,
    nearly_zero_vectors,
    at_the_cutoff,
    just_inside_the_cutoff,
    around_the_cutoff,
)


@models()
@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.__name__)
def test_everything_is_finite(differentiate: Differentiate, scene: Callable) -> None:
    assert_finite(differentiate(scene()))


@models()
def test_an_isolated_atom_changes_nothing_for_another_graph(differentiate: Differentiate) -> None:
    alone, accompanied = batch(molecule()), batch(molecule(), single_atom())
    expected, actual = differentiate(alone), differentiate(accompanied)
    assert_equal(differentiate, actual, expected, molecule().size)
    # It feels nothing itself, and has an energy.
    assert not actual.outputs["forces"][molecule().size].any()
    assert actual.outputs["energy"][1] != 0


# Those other norms take statistics over all atoms of a graph.
@models(lambda fields: fields.get("norm_layer", "layer") == "layer")
def test_an_isolated_atom_adds_its_energy_to_a_molecule(differentiate: Differentiate) -> None:
    carbon = system_of(molecule().positions)
    apart = differentiate(batch(carbon, single_atom())).outputs
    together = differentiate(isolated_atom_in_a_molecule()).outputs
    assert_close(together["energy"][0], apart["energy"][:2].sum(), differentiate.tolerance)
    assert_close(together["forces"], apart["forces"], differentiate.tolerance)


@models()
def test_edges_of_no_length_send_nothing(differentiate: Differentiate) -> None:
    expected = differentiate(batch(molecule()))
    for scene in (edges_to_themselves, coincident_padding):
        assert_equal(differentiate, differentiate(scene()), expected, molecule().size)


@models(lambda fields: "smooth_cutoff" in fields, dtypes=["float64"])
def test_a_smooth_cutoff_leaves_no_jump(differentiate: Differentiate) -> None:
    """Energies and forces of two atoms with an edge just inside the cutoff, and without."""
    connected = differentiate(batch(pair(CUTOFF - 1e-4)))
    apart = differentiate(batch(without_edges(pair_of_atoms(CUTOFF - 1e-4))))
    for name, values in apart.outputs.items():
        assert_close(connected.outputs[name][:1], values[:1], 1e-7)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("cutoff", [3.5, 3.6, 5.0, 6.9, 7.5])
def test_the_last_number_below_a_smooth_cutoff(cutoff: float, dtype: str) -> None:
    """There `distance / cutoff` may round to 1, which is at the cutoff already."""
    with jax.enable_x64(dtype == "float64"):
        cutoff_as_number = jnp.asarray(cutoff, dtype)
        last = jnp.nextafter(cutoff_as_number, jnp.zeros_like(cutoff_as_number))
        slope = jax.grad(lambda d: log_smooth_envelope(d, cutoff))
        for function in (lambda d: log_smooth_envelope(d, cutoff), slope, jax.grad(slope)):
            assert np.isfinite(jax.jit(function)(last))

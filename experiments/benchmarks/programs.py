"""The jitted function of a case, with its arguments."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from equiformer_jax.data import batching
from equiformer_jax.data.graph_building import build_graph_store
from equiformer_jax.data.graph_packing import pack_parts
from equiformer_jax.data.normalizer import Normalizer
from equiformer_jax.graph import batch_graphs, build_graph
from equiformer_jax.inference.dynamics.evaluator import ForceEvaluator
from equiformer_jax.inference.meaning import Meaning
from equiformer_jax.inference.potential import Potential
from equiformer_jax.models.checks import check_graph
from equiformer_jax.models.equiformer import Equiformer
from equiformer_jax.training.objectives import EnergyForceObjective
from equiformer_jax.training.optimizer import make_optimizer
from equiformer_jax.training.sharding import make_data_mesh, place_batch, replicate
from equiformer_jax.training.state import create_train_state
from equiformer_jax.training.step import make_evaluation_step, make_predict, make_train_step
from experiments.benchmarks.cases import DYNAMICS, FORCES, TRAIN, Case
from experiments.benchmarks.timing import Arguments

# In dynamics atoms go so far in so many steps, and back: enough for a new list, of neighbors.
_FAR_IN_SKINS, _STEPS_THERE = 0.6, 5


class Program(NamedTuple):
    """Something to compile and run.

    Attributes:
      function: jitted.
      arguments: those of the first step.
      advance: from a step's result and arguments to the arguments of the next step; `None` where
        they stay the same.
      devices: that run it.
      atoms: real ones in the batch.
      edges: real ones in the batch.
    """

    function: Any
    arguments: Arguments
    advance: Callable[[Any, Arguments], Arguments] | None
    devices: int
    atoms: int
    edges: int


def build(case: Case) -> Program:
    """Makes structures, graphs, parameters and the step of a case.

    Raises:
      ValueError: the model cannot be given these structures.
    """
    if case.kind == DYNAMICS:
        return _build_dynamics(case)
    config = case.config
    structures = case.make(case.batch_size)
    for structure in structures:
        check_graph(build_graph(structure, config.max_radius), config)
    store = build_graph_store(structures, config.max_radius, config.max_neighbors)
    store = store.relative_to(store.energies().mean())
    mesh = make_data_mesh()
    parts = batching.split_over_devices(np.arange(case.batch_size), store.sizes, mesh.size)
    batch = pack_parts(store, parts, batching.budget_for([parts], store.sizes))

    model = Equiformer(config)
    first = jax.tree.map(lambda leaf: leaf[0], batch)
    params = jax.jit(model.init)(jax.random.key(0), first)["params"]
    needs_forces = case.kind == FORCES or (case.kind == TRAIN and case.learns_forces)
    objective = EnergyForceObjective(1.0, 1.0, 80.0 if needs_forces else 0.0)
    predict, placed = make_predict(model, needs_forces), place_batch(batch, mesh)
    atoms, edges = int(store.sizes.nodes.sum()), int(store.sizes.edges.sum())
    if case.kind == TRAIN:
        optimizer = make_optimizer(5e-4, 1e-6)
        state = replicate(create_train_state(params, optimizer, jax.random.key(1)), mesh)
        train = make_train_step(predict, optimizer, objective, mesh)
        return Program(train, (state, placed), _with_new_state, mesh.size, atoms, edges)
    evaluate = make_evaluation_step(predict, objective, mesh)
    return Program(evaluate, (replicate(params, mesh), placed), None, mesh.size, atoms, edges)


def _with_new_state(result: Any, arguments: Arguments) -> Arguments:
    """The given state was donated."""
    return (result[0], *arguments[1:])


def _build_dynamics(case: Case) -> Program:
    """The program that `ForceEvaluator` runs at every call, positions on the device already.

    Every atom goes back and forth in a direction of its own, and the neighbor list is made anew
    where it would be: in one step of five.
    """
    config, (structure,) = case.config, case.make(1)
    graph = build_graph(structure, config.max_radius)
    check_graph(graph, config)
    params = jax.jit(Equiformer(config).init)(jax.random.key(0), batch_graphs([graph]))["params"]
    evaluator = ForceEvaluator(Potential(config, params, Meaning(Normalizer(scale=1.0))), structure)
    function, arguments = evaluator.program()
    network, neighbors, start, cell = arguments

    directions = np.random.default_rng(0).normal(size=structure.positions.shape)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    far = _FAR_IN_SKINS * evaluator.shape.skin * directions
    there = [
        jax.device_put(np.asarray(structure.positions + step / _STEPS_THERE * far, start.dtype))
        for step in range(_STEPS_THERE + 1)
    ]
    path = itertools.cycle([*there, *there[-2:0:-1]])

    def move(result: Any, last: Arguments) -> Arguments:
        return (last[0], result[1], next(path), last[3])

    return Program(
        function,
        (network, neighbors, next(path), cell),
        move,
        1,
        structure.num_atoms,
        int(graph.n_edge[0]),
    )

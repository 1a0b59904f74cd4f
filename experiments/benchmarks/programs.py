"""The jitted function of a case, with its arguments."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jraph
import numpy as np

from equiformer_jax.data import batching
from equiformer_jax.data.graph_building import build_graph_store
from equiformer_jax.data.graph_packing import pack_parts
from equiformer_jax.data.normalizer import Normalizer
from equiformer_jax.graph import batch_graphs, build_graph
from equiformer_jax.inference.dynamics.evaluator import ForceEvaluator
from equiformer_jax.inference.meaning import Meaning
from equiformer_jax.inference.potential import Potential
from equiformer_jax.models.equiformer import Equiformer
from equiformer_jax.training.objectives import EnergyForceObjective
from equiformer_jax.training.optimizer import make_optimizer
from equiformer_jax.training.sharding import make_data_mesh, place_batch, replicate
from equiformer_jax.training.state import create_train_state
from equiformer_jax.training.step import make_evaluation_step, make_predict, make_train_step
from experiments.benchmarks.cases import DYNAMICS, FORCES, TRAIN, Case


class Program(NamedTuple):
    """Something to compile and run.

    Attributes:
      function: jitted; its first argument is carried from step to step if it trains.
      arguments: those of the first step.
      batch: on the host.
      atoms: real ones in the batch.
      edges: real ones in the batch.
    """

    function: Any
    arguments: tuple[Any, Any]
    batch: jraph.GraphsTuple
    atoms: int
    edges: int


def build(case: Case) -> Program:
    """Makes structures, graphs, parameters and the step of a case."""
    if case.kind == DYNAMICS:
        return _build_dynamics(case)
    config = case.config
    structures = case.make(case.batch_size)
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
    function: Any
    carried: Any
    if case.kind == TRAIN:
        optimizer = make_optimizer(5e-4, 1e-6)
        carried = replicate(create_train_state(params, optimizer, jax.random.key(1)), mesh)
        function = make_train_step(predict, optimizer, objective, mesh)
    else:
        carried = replicate(params, mesh)
        function = make_evaluation_step(predict, objective, mesh)
    atoms, edges = int(store.sizes.nodes.sum()), int(store.sizes.edges.sum())
    return Program(function, (carried, placed), batch, atoms, edges)


def _build_dynamics(case: Case) -> Program:
    """A force evaluation as molecular dynamics does it, the neighbor list already made."""
    config, (structure,) = case.config, case.make(1)
    graph = build_graph(structure, config.max_radius)
    batch = batch_graphs([graph])
    params = jax.jit(Equiformer(config).init)(jax.random.key(0), batch)["params"]
    potential = Potential(config, params, Meaning(Normalizer(scale=1.0)))
    evaluator = ForceEvaluator(potential, structure)
    evaluator(structure.positions)
    positions = jax.device_put(structure.positions.astype(np.float32))
    atoms, edges = structure.num_atoms, int(graph.n_edge[0])
    function = jax.jit(evaluator.evaluate)
    return Program(function, (evaluator.neighbors, positions), batch, atoms, edges)

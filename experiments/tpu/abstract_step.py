"""The training step of a configuration on chips that are not here, with nothing but shapes to it.

What `training.run.Run` makes of a configuration and its data is made here of the configuration
alone. The numbers that would come from the data (the deviation of the labels, the length of an
epoch) do not change a program's shape or cost.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jraph
from jax.sharding import AxisType, Mesh
from ml_collections import config_dict

from equiformer_jax.data.budgets import Budget
from equiformer_jax.models.equiformer import Equiformer
from equiformer_jax.training import recipe
from equiformer_jax.training.configuration import model_from_settings
from equiformer_jax.training.early_checks import check_configuration
from equiformer_jax.training.edge_parts import edge_axis_of
from equiformer_jax.training.ensemble import (
    ensemble_state,
    init_members,
    make_ensemble_train_step,
)
from equiformer_jax.training.mesh_settings import MeshSettings
from equiformer_jax.training.sharding import (
    DATA_AXIS,
    EDGE_AXIS,
    Tree,
    num_data_parts,
    split_sharding,
)
from equiformer_jax.training.state import (
    Params,
    TrainState,
    create_train_state,
    state_sharding,
)
from equiformer_jax.training.step import make_predict, make_train_step
from experiments.tpu.abstract_batch import abstract_batch, example_graph, part_budget
from experiments.tpu.chips import Topology
from experiments.tpu.sizes import StructureSize

_LENGTH = recipe.RunLength(num_epochs=100, steps_per_epoch=100)


class AbstractStep(NamedTuple):
    """A training step, ready to be lowered.

    Attributes:
      function: jitted; takes the state and a batch.
      state: shapes, types and places.
      batch: likewise.
      budget: padded shape of the part of one chip, or of one micro-batch of it.
      structures: real ones in such a part.
      parameters: of the model.
    """

    function: Any
    state: TrainState
    batch: jraph.GraphsTuple
    budget: Budget
    structures: int
    parameters: int

    def trace(self) -> Any:
        """The traced step, to look at and to lower."""
        return self.function.trace(self.state, self.batch)


def make_mesh(topology: Topology, edge_parts: int) -> Mesh:
    """A mesh over all chips of a topology, with the axes that a training has.

    Raises:
      ValueError: `edge_parts` does not divide them.
    """
    count = len(topology.devices)
    if count % edge_parts:
        raise ValueError(
            f"config.mesh.edge_parts={edge_parts}; expected a divisor of the {count} chips of "
            f"{topology.name}"
        )
    return jax.make_mesh(
        (count // edge_parts, edge_parts),
        (DATA_AXIS, EDGE_AXIS),
        axis_types=(AxisType.Auto, AxisType.Auto),
        devices=topology.devices,
    )


def structures_per_part(config: config_dict.ConfigDict, num_parts: int) -> int:
    """Structures on each part of the mesh at a time: the batch divided up, one at least."""
    training = config.training
    return math.ceil(training.batch_size / (num_parts * training.accumulate))


def build_step(
    config: config_dict.ConfigDict,
    topology: Topology,
    size: StructureSize,
    structures: int | None = None,
) -> AbstractStep:
    """The full training step of a configuration: loss and its gradient, optimizer, collectives.

    Args:
      config: as for a training.
      topology: what to compile it for.
      size: of a structure.
      structures: on each part of the mesh at a time; those of the batch of the configuration if
        `None`.

    Raises:
      ValueError: a part of the configuration does not fit; names the field.
    """
    check_configuration(config)
    settings = MeshSettings.from_settings(config.get("mesh"))
    mesh = make_mesh(topology, settings.edge_parts)
    parts, training = num_data_parts(mesh), config.training
    structures = structures or structures_per_part(config, parts)
    leading = (parts, training.accumulate) if training.accumulate > 1 else (parts,)
    example, budget = example_graph(config), part_budget(size, structures)
    batch = abstract_batch(example, budget, leading, split_sharding(mesh))

    model = Equiformer(model_from_settings(config.model))
    objective = recipe.build_objective(
        config.objective, 1.0, _LENGTH, recipe.build_augmentation(config.get("augmentation"))
    )
    schedule = recipe.build_schedule(config.schedule, config.optimizer.learning_rate, _LENGTH)
    optimizer = recipe.build_optimizer(config.optimizer, schedule)
    average = recipe.build_average(config.optimizer)
    members = training.get("ensemble", 1)

    def init_one(key: jax.Array, graph: jraph.GraphsTuple) -> Params:
        return model.init(key, graph)["params"]

    def create_one(params: Params, key: jax.Array) -> TrainState:
        return create_train_state(params, optimizer, key, with_average=average is not None)

    def create(key: jax.Array, graph: jraph.GraphsTuple) -> TrainState:
        if members > 1:
            params = init_members(init_one, key, graph, members)
            return ensemble_state(create_one, params, key)
        return create_one(init_one(key, graph), key)

    state = jax.eval_shape(create, jax.random.key(0), abstract_batch(example, budget, ()))
    make_step = make_ensemble_train_step if members > 1 else make_train_step
    function = make_step(
        make_predict(model, objective.needs_forces, objective.needs_stress, edge_axis_of(mesh)),
        optimizer,
        objective,
        mesh,
        accumulate=training.accumulate,
        average=average,
        skip_nonfinite=training.skip_nonfinite,
        shard_optimizer=settings.shard_optimizer,
    )
    places = state_sharding(state, mesh, settings.shard_optimizer, members > 1)
    return AbstractStep(
        function=function,
        state=_placed(state, places),
        batch=batch,
        budget=budget,
        structures=structures,
        parameters=sum(leaf.size for leaf in jax.tree.leaves(state.params)),
    )


def _placed(tree: Tree, shardings: Tree) -> Tree:
    return jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        tree,
        shardings,
    )

"""The training step of a configuration on chips that are not here, with nothing but shapes to it.

The program is that of a training (`training.program`); only shapes take the place of arrays. The
numbers that would come from the data (the deviation of the labels, the length of an epoch) do not
change a program's shape or cost.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jraph
from ml_collections import config_dict

from equiformer_jax.data.budgets import Budget
from equiformer_jax.training import recipe
from equiformer_jax.training.early_checks import check_configuration
from equiformer_jax.training.mesh_settings import MeshSettings
from equiformer_jax.training.program import TrainingProgram
from equiformer_jax.training.sharding import (
    make_data_mesh,
    num_data_parts,
    placed,
    split_sharding,
)
from equiformer_jax.training.state import TrainState, count_parameters
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
    edge_parts = MeshSettings.from_settings(config.get("mesh")).edge_parts
    mesh = make_data_mesh(edge_parts=edge_parts, devices=topology.devices)
    parts, training = num_data_parts(mesh), config.training
    structures = structures or structures_per_part(config, parts)
    leading = (parts, training.accumulate) if training.accumulate > 1 else (parts,)
    example, budget = example_graph(config), part_budget(size, structures)
    batch = abstract_batch(example, budget, leading, split_sharding(mesh))

    augmentation = recipe.build_augmentation(config.get("augmentation"))
    program = TrainingProgram(config, mesh, _LENGTH, 1.0, augmentation)

    def create(key: jax.Array, graph: jraph.GraphsTuple) -> TrainState:
        return program.create_state(program.init(key, graph), key)

    state = jax.eval_shape(create, jax.random.key(0), abstract_batch(example, budget, ()))
    return AbstractStep(
        function=program.make_train_step(),
        state=placed(state, program.state_places(state)),
        batch=batch,
        budget=budget,
        structures=structures,
        parameters=count_parameters(state.params),
    )

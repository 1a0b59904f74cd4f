"""Everything that a configuration stands for, built once: data, model, objective and steps."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import jax
import jraph
import optax
from ml_collections import config_dict

from equiformer_jax.data.catalog import SPLITS
from equiformer_jax.data.pipeline import DeviceBatch, steps_per_epoch
from equiformer_jax.data.statistics import DatasetStatistics
from equiformer_jax.training import recipe
from equiformer_jax.training.compiled import CompiledPerShape
from equiformer_jax.training.configuration import model_from_settings
from equiformer_jax.training.evaluation import Evaluation, evaluate_split
from equiformer_jax.training.mesh_settings import MeshSettings
from equiformer_jax.training.program import TrainingProgram
from equiformer_jax.training.run_data import RunData
from equiformer_jax.training.sharding import (
    make_data_mesh,
    place_batch,
    placed,
    replicated_sharding,
)
from equiformer_jax.training.state import Params, TrainState

Say = Callable[[str], None]


class Run:
    """A configuration, built.

    Attributes:
      config: the configuration.
      mesh: all devices, of all hosts.
      model: the `Equiformer`.
      data: structures, graphs and batches.
      length: epochs and steps; 0 steps an epoch where there is no training split.
      objective: what is minimized and reported.
      members: models that are trained together (`ensemble`); 1 for a single one.
      evaluation_step: compiled at its first call.
    """

    def __init__(
        self,
        config: config_dict.ConfigDict,
        say: Say,
        statistics: DatasetStatistics | None = None,
        splits: Sequence[str] = SPLITS,
    ) -> None:
        """Loads the data and builds everything but the weights.

        Args:
          config: one that `early_checks.check_configuration` accepts.
          say: prints a line.
          statistics: those saved with the run; computed from the training split if `None`.
          splits: which splits are needed.

        Raises:
          ValueError: a part of the configuration does not fit; names the field.
        """
        self.config, self._say = config, say
        self.mesh = make_data_mesh(
            edge_parts=MeshSettings.from_settings(config.get("mesh")).edge_parts
        )
        augmentation = recipe.build_augmentation(config.get("augmentation"))
        self.data = RunData(
            config,
            model_from_settings(config.model),
            self.mesh,
            say,
            statistics,
            splits,
            augmentation,
        )
        self.data.check_limits()
        training = config.training
        steps = 0
        if "train" in splits and len(splits) > 1:
            steps = steps_per_epoch(len(self.data.stores["train"]), training.batch_size)
        self.program = TrainingProgram(
            config,
            self.mesh,
            recipe.RunLength(training.num_epochs, max(steps, 1)),
            self.data.normalizer.scale,
            augmentation,
        )
        self.model, self.length = self.program.model, self.program.length
        self.objective, self.members = self.program.objective, self.program.members
        self.evaluation_step = CompiledPerShape(
            self.program.make_evaluation_step(), "evaluation step", say
        )

    @property
    def schedule(self) -> optax.Schedule:
        """Learning rate as a function of the step."""
        return self.program.schedule

    @functools.cached_property
    def train_step(self) -> CompiledPerShape:
        """The training step, compiled at its first call."""
        return CompiledPerShape(self.program.make_train_step(), "training step", self._say)

    def place(self, batch: DeviceBatch) -> jraph.GraphsTuple:
        """Puts a training batch on the devices, with an axis of micro-batches if there are any."""
        graph, parts = batch.graph, self.config.training.accumulate
        if parts > 1:
            graph = jax.tree.map(lambda x: x.reshape(-1, parts, *x.shape[1:]), graph)
        return place_batch(graph, self.mesh)

    def initial_params(self) -> Params:
        """Fresh parameters on every device, drawn from the seed of the run."""
        key = jax.random.fold_in(jax.random.key(self.config.seed), 0)
        init = jax.jit(self.program.init, out_shardings=replicated_sharding(self.mesh))
        return init(key, self.data.example)

    def abstract_params(self) -> Params:
        """Shapes, types and places of the parameters."""
        key = jax.random.key(0)
        params = jax.eval_shape(self.program.init, key, self.data.example)
        return placed(params, jax.tree.map(lambda _: replicated_sharding(self.mesh), params))

    def state_of(self, params: Params) -> TrainState:
        """The state before the first step, with given parameters."""
        places = self.program.state_places(jax.eval_shape(self._create_state, params))
        return jax.jit(self._create_state, out_shardings=places)(params)

    def abstract_state(self) -> TrainState:
        """Shapes, types and places of the training state."""
        state = jax.eval_shape(self._create_state, self.abstract_params())
        return placed(state, self.program.state_places(state))

    def evaluate(self, params: Params, split: str) -> Evaluation:
        """Predicts a split with given parameters and compares it with its references."""
        data = self.data
        label, unit = recipe.label_of(self.config.data)
        return evaluate_split(
            self.evaluation_step,
            params,
            data.evaluation_batches[split],
            self.mesh,
            store=data.stores[split],
            scale=data.normalizer.scale,
            structures=data.structures[split],
            split=split,
            label=label,
            unit=unit,
        )

    def _create_state(self, params: Params) -> TrainState:
        key = jax.random.fold_in(jax.random.key(self.config.seed), 1)
        return self.program.create_state(params, key)

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
from equiformer_jax.models.equiformer import Equiformer
from equiformer_jax.training import recipe
from equiformer_jax.training.averages import ParameterAverage
from equiformer_jax.training.compiled import CompiledPerShape
from equiformer_jax.training.configuration import model_from_settings
from equiformer_jax.training.edge_parts import edge_axis_of
from equiformer_jax.training.ensemble import (
    ensemble_state,
    init_members,
    make_ensemble_predict,
    make_ensemble_train_step,
)
from equiformer_jax.training.evaluation import Evaluation, evaluate_split
from equiformer_jax.training.mesh_settings import MeshSettings
from equiformer_jax.training.run_data import RunData
from equiformer_jax.training.sharding import (
    Tree,
    make_data_mesh,
    place_batch,
    replicated_sharding,
)
from equiformer_jax.training.state import (
    Params,
    TrainState,
    create_train_state,
    state_sharding,
)
from equiformer_jax.training.step import make_evaluation_step, make_predict, make_train_step

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
        self._mesh_settings = MeshSettings.from_settings(config.get("mesh"))
        self.mesh = make_data_mesh(edge_parts=self._mesh_settings.edge_parts)
        self.model = Equiformer(model_from_settings(config.model))
        augmentation = recipe.build_augmentation(config.get("augmentation"))
        self.data = RunData(
            config, self.model.config, self.mesh, say, statistics, splits, augmentation
        )
        self.data.check_limits()
        training = config.training
        steps = 0
        if "train" in splits and len(splits) > 1:
            steps = steps_per_epoch(len(self.data.stores["train"]), training.batch_size)
        self.length = recipe.RunLength(training.num_epochs, max(steps, 1))
        self.objective = recipe.build_objective(
            config.objective, self.data.normalizer.scale, self.length, augmentation
        )
        self._predict = make_predict(
            self.model,
            self.objective.needs_forces,
            self.objective.needs_stress,
            edge_axis_of(self.mesh),
        )
        self.members = training.get("ensemble", 1)
        evaluated = make_ensemble_predict(self._predict) if self.members > 1 else self._predict
        self.evaluation_step = CompiledPerShape(
            make_evaluation_step(evaluated, self.objective, self.mesh), "evaluation step", say
        )

    @functools.cached_property
    def schedule(self) -> optax.Schedule:
        """Learning rate as a function of the step."""
        rate = self.config.optimizer.learning_rate
        return recipe.build_schedule(self.config.schedule, rate, self.length)

    @functools.cached_property
    def optimizer(self) -> optax.GradientTransformation:
        """The optimizer with its schedule."""
        return recipe.build_optimizer(self.config.optimizer, self.schedule)

    @property
    def average(self) -> ParameterAverage | None:
        """The moving average of the weights, if the run keeps one."""
        return recipe.build_average(self.config.optimizer)

    @functools.cached_property
    def train_step(self) -> CompiledPerShape:
        """The training step, compiled at its first call."""
        make = make_ensemble_train_step if self.members > 1 else make_train_step
        step = make(
            self._predict,
            self.optimizer,
            self.objective,
            self.mesh,
            accumulate=self.config.training.accumulate,
            average=self.average,
            skip_nonfinite=self.config.training.skip_nonfinite,
            shard_optimizer=self._mesh_settings.shard_optimizer,
        )
        return CompiledPerShape(step, "training step", self._say)

    def place(self, batch: DeviceBatch) -> jraph.GraphsTuple:
        """Puts a training batch on the devices, with an axis of micro-batches if there are any."""
        graph, parts = batch.graph, self.config.training.accumulate
        if parts > 1:
            graph = jax.tree.map(lambda x: x.reshape(-1, parts, *x.shape[1:]), graph)
        return place_batch(graph, self.mesh)

    def initial_params(self) -> Params:
        """Fresh parameters on every device, drawn from the seed of the run."""
        key = jax.random.fold_in(jax.random.key(self.config.seed), 0)
        init = jax.jit(self._init, out_shardings=replicated_sharding(self.mesh))
        return init(key, self.data.example)

    def abstract_params(self) -> Params:
        """Shapes, types and places of the parameters."""
        key = jax.random.key(0)
        params = jax.eval_shape(self._init, key, self.data.example)
        return _placed(params, jax.tree.map(lambda _: replicated_sharding(self.mesh), params))

    def state_of(self, params: Params) -> TrainState:
        """The state before the first step, with given parameters."""
        create = jax.jit(self._create_state, out_shardings=self._state_places(params))
        return create(params)

    def abstract_state(self) -> TrainState:
        """Shapes, types and places of the training state."""
        params = self.abstract_params()
        return _placed(jax.eval_shape(self._create_state, params), self._state_places(params))

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

    def _init(self, key: jax.Array, graph: jraph.GraphsTuple) -> Params:
        if self.members > 1:
            return init_members(self._init_one, key, graph, self.members)
        return self._init_one(key, graph)

    def _init_one(self, key: jax.Array, graph: jraph.GraphsTuple) -> Params:
        return self.model.init(key, graph)["params"]

    def _create_state(self, params: Params) -> TrainState:
        key = jax.random.fold_in(jax.random.key(self.config.seed), 1)
        if self.members > 1:
            return ensemble_state(self._create_one, params, key)
        return self._create_one(params, key)

    def _create_one(self, params: Params, key: jax.Array) -> TrainState:
        return create_train_state(
            params, self.optimizer, key, with_average=self.average is not None
        )

    def _state_places(self, params: Params) -> TrainState:
        """The sharding of each array of the state."""
        state = jax.eval_shape(self._create_state, params)
        shard_optimizer = self._mesh_settings.shard_optimizer
        return state_sharding(state, self.mesh, shard_optimizer, self.members > 1)


def _placed(tree: Tree, shardings: Tree) -> Tree:
    return jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        tree,
        shardings,
    )

"""What the model, the steps and the state of a run are: all that follows without any data."""

from __future__ import annotations

import functools

import jax
import jraph
import optax
from jax.sharding import Mesh
from ml_collections import config_dict

from equiformer_jax.data.augmentation import Augmentation
from equiformer_jax.models.equiformer import Equiformer
from equiformer_jax.training import recipe
from equiformer_jax.training.averages import ParameterAverage
from equiformer_jax.training.configuration import model_from_settings
from equiformer_jax.training.edge_parts import edge_axis_of
from equiformer_jax.training.ensemble import (
    ensemble_state,
    init_members,
    make_ensemble_predict,
    make_ensemble_train_step,
)
from equiformer_jax.training.mesh_settings import MeshSettings
from equiformer_jax.training.state import Params, TrainState, create_train_state, state_sharding
from equiformer_jax.training.step import (
    EvaluationStep,
    TrainStep,
    make_evaluation_step,
    make_predict,
    make_train_step,
)


class TrainingProgram:
    """The functions of a training, from its configuration and two numbers of its data.

    Attributes:
      model: the `Equiformer`.
      length: epochs and steps.
      objective: what is minimized and reported.
      members: models that are trained together (`ensemble`); 1 for a single one.
    """

    def __init__(
        self,
        config: config_dict.ConfigDict,
        mesh: Mesh,
        length: recipe.RunLength,
        std: float,
        augmentation: Augmentation | None,
    ) -> None:
        """Builds the model and the objective.

        Args:
          config: one that `early_checks.check_configuration` accepts.
          mesh: the devices.
          length: epochs and steps.
          std: one unit of the network, in eV or the target's unit.
          augmentation: of the training structures, `recipe.build_augmentation`.

        Raises:
          ValueError: a part of the configuration does not fit; names the field.
        """
        self._config, self._mesh = config, mesh
        self._shard_optimizer = MeshSettings.from_settings(config.get("mesh")).shard_optimizer
        self.model = Equiformer(model_from_settings(config.model))
        self.length = length
        self.objective = recipe.build_objective(config.objective, std, length, augmentation)
        self.members = config.training.get("ensemble", 1)
        self._predict = make_predict(
            self.model,
            self.objective.needs_forces,
            self.objective.needs_stress,
            edge_axis_of(mesh),
        )

    @functools.cached_property
    def schedule(self) -> optax.Schedule:
        """Learning rate as a function of the step."""
        rate = self._config.optimizer.learning_rate
        return recipe.build_schedule(self._config.schedule, rate, self.length)

    @functools.cached_property
    def _optimizer(self) -> optax.GradientTransformation:
        return recipe.build_optimizer(self._config.optimizer, self.schedule)

    @property
    def _average(self) -> ParameterAverage | None:
        return recipe.build_average(self._config.optimizer)

    def init(self, key: jax.Array, graph: jraph.GraphsTuple) -> Params:
        """Fresh parameters, of an ensemble those of all members."""
        if self.members > 1:
            return init_members(self._init_one, key, graph, self.members)
        return self._init_one(key, graph)

    def _init_one(self, key: jax.Array, graph: jraph.GraphsTuple) -> Params:
        return self.model.init(key, graph)["params"]

    def create_state(self, params: Params, key: jax.Array) -> TrainState:
        """The state before the first step, with given parameters and the key of the run."""
        if self.members > 1:
            return ensemble_state(self._create_one, params, key)
        return self._create_one(params, key)

    def _create_one(self, params: Params, key: jax.Array) -> TrainState:
        return create_train_state(
            params, self._optimizer, key, with_average=self._average is not None
        )

    def state_places(self, state: TrainState) -> TrainState:
        """The sharding of each array of a state, or of what has its shapes."""
        return state_sharding(state, self._mesh, self._shard_optimizer, self.members > 1)

    def make_train_step(self) -> TrainStep:
        """The jitted training step."""
        make = make_ensemble_train_step if self.members > 1 else make_train_step
        return make(
            self._predict,
            self._optimizer,
            self.objective,
            self._mesh,
            accumulate=self._config.training.accumulate,
            average=self._average,
            skip_nonfinite=self._config.training.skip_nonfinite,
            shard_optimizer=self._shard_optimizer,
        )

    def make_evaluation_step(self) -> EvaluationStep:
        """The jitted evaluation step; of an ensemble, that of the mean of its members."""
        predict = make_ensemble_predict(self._predict) if self.members > 1 else self._predict
        return make_evaluation_step(predict, self.objective, self._mesh)

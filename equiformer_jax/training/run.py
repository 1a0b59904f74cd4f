"""Everything that a configuration stands for, built once: data, model, objective and steps."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence

import jax
import jraph
import numpy as np
import optax
from ml_collections import config_dict

from equiformer_jax.data import batching
from equiformer_jax.data.catalog import SPLITS, load_dataset
from equiformer_jax.data.pipeline import (
    DeviceBatch,
    EvaluationBatches,
    GraphSource,
    steps_per_epoch,
    training_batches,
)
from equiformer_jax.data.statistics import DatasetStatistics, compute_statistics
from equiformer_jax.models.equiformer import Equiformer
from equiformer_jax.training.compiled import CompiledPerShape
from equiformer_jax.training.configuration import model_from_settings
from equiformer_jax.training.evaluation import Evaluation, evaluate_split
from equiformer_jax.training.objectives import EnergyForceObjective
from equiformer_jax.training.optimizer import make_optimizer
from equiformer_jax.training.schedule import cosine_epoch_schedule
from equiformer_jax.training.sharding import Tree, make_data_mesh, replicated_sharding
from equiformer_jax.training.state import Params, TrainState, create_train_state
from equiformer_jax.training.step import make_evaluation_step, make_predict, make_train_step

Say = Callable[[str], None]


class Run:
    """A configuration, built.

    Attributes:
      config: the configuration.
      mesh: all devices.
      model: the `Equiformer`.
      statistics: those of the training split.
      sources: graphs by split, energies relative to the mean training energy.
      objective: what is minimized and reported.
      evaluation_batches: batches of the splits that are evaluated, all of one shape.
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
          config: with the parts `model`, `data` and `training`, and a `seed`.
          say: prints a line.
          statistics: those saved with the run; computed from the training split if `None`.
          splits: which splits are needed.

        Raises:
          ValueError: a part of the configuration does not fit; names the field.
        """
        self.config, self._say = config, say
        self.mesh = make_data_mesh()
        model_config = model_from_settings(config.model)
        self.model = Equiformer(model_config)

        structures = load_dataset(config.data.name, config.data.limits)
        sources = {
            split: GraphSource(
                structures[split], model_config.max_radius, model_config.max_neighbors
            )
            for split in splits
        }
        if statistics is None:
            statistics = compute_statistics(structures["train"], sources["train"])
        self.statistics = statistics
        self.sources = {
            split: source.relative_to(statistics.energy_mean) for split, source in sources.items()
        }

        self.objective = EnergyForceObjective(
            energy_std=statistics.energy_std,
            energy_weight=config.training.energy_weight,
            force_weight=config.training.force_weight,
            force_error=config.training.force_error,
        )
        self._predict = make_predict(self.model, self.objective.needs_forces)
        self.evaluation_batches = self._plan_evaluation()
        self.evaluation_step = CompiledPerShape(
            make_evaluation_step(self._predict, self.objective, self.mesh), "evaluation step", say
        )

    @property
    def num_devices(self) -> int:
        """Devices that share a batch."""
        return self.mesh.size

    @functools.cached_property
    def steps_per_epoch(self) -> int:
        """Training steps in an epoch."""
        return steps_per_epoch(len(self.sources["train"]), self.config.training.batch_size)

    @functools.cached_property
    def budgets(self) -> list[batching.Budget]:
        """Shapes of the training batches on one device."""
        batch_size = self.config.training.batch_size
        return batching.choose_budgets(self.sources["train"].sizes, batch_size, self.num_devices)

    @functools.cached_property
    def schedule(self) -> optax.Schedule:
        """Learning rate as a function of the step."""
        training = self.config.training
        return cosine_epoch_schedule(
            training.learning_rate,
            training.warmup_epochs,
            training.num_epochs,
            self.steps_per_epoch,
            training.warmup_lr,
            training.min_lr,
        )

    @functools.cached_property
    def optimizer(self) -> optax.GradientTransformation:
        """The optimizer with its schedule."""
        return make_optimizer(self.schedule, self.config.training.weight_decay)

    @functools.cached_property
    def train_step(self) -> CompiledPerShape:
        """The training step, compiled at its first call."""
        step = make_train_step(self._predict, self.optimizer, self.objective, self.mesh)
        return CompiledPerShape(step, "training step", self._say)

    def training_batches(self, epoch: int) -> Iterator[DeviceBatch]:
        """The batches of an epoch, the same whenever and wherever they are asked for."""
        return training_batches(
            self.sources["train"],
            self.budgets,
            batch_size=self.config.training.batch_size,
            num_devices=self.num_devices,
            seed=self.config.seed,
            epoch=epoch,
        )

    def initial_params(self) -> Params:
        """Fresh parameters on every device, drawn from the seed of the run."""
        key = jax.random.fold_in(jax.random.key(self.config.seed), 0)
        init = jax.jit(self._init, out_shardings=replicated_sharding(self.mesh))
        return init(key, self._example)

    def abstract_params(self) -> Params:
        """Shapes, types and places of the parameters."""
        key = jax.random.key(0)
        return self._placed(jax.eval_shape(self._init, key, self._example))

    def initial_state(self) -> TrainState:
        """The state before the first step."""
        create = jax.jit(self._create_state, out_shardings=replicated_sharding(self.mesh))
        return create(self.initial_params())

    def abstract_state(self) -> TrainState:
        """Shapes, types and places of the training state."""
        return self._placed(jax.eval_shape(self._create_state, self.abstract_params()))

    def evaluate(self, params: Params, split: str) -> Evaluation:
        """Predicts a split with given parameters and compares it with its references."""
        return evaluate_split(
            self.evaluation_step,
            params,
            self.evaluation_batches[split],
            self.mesh,
            self.statistics,
            split,
        )

    def _plan_evaluation(self) -> dict[str, EvaluationBatches]:
        batch_size = self.config.training.evaluation_batch_size
        # A training evaluates the other splits; an evaluation of one split may ask for any.
        evaluated = [split for split in self.sources if split != "train"] or list(self.sources)
        plans = {
            split: EvaluationBatches(
                self.sources[split], batch_size=batch_size, num_devices=self.num_devices
            )
            for split in evaluated
        }
        shared = functools.reduce(batching.Budget.union, (p.budget for p in plans.values()))
        return {split: plan.padded_to(shared) for split, plan in plans.items()}

    @property
    def _example(self) -> jraph.GraphsTuple:
        source = next(iter(self.sources.values()))
        smallest = int(np.argmin(source.sizes.edges))
        only = [[np.array([smallest])]]
        return batching.pack([source[smallest]], batching.budget_for(only, source.sizes), source[0])

    def _init(self, key: jax.Array, graph: jraph.GraphsTuple) -> Params:
        return self.model.init(key, graph)["params"]

    def _create_state(self, params: Params) -> TrainState:
        key = jax.random.fold_in(jax.random.key(self.config.seed), 1)
        return create_train_state(params, self.optimizer, key)

    def _placed(self, tree: Tree) -> Tree:
        sharding = replicated_sharding(self.mesh)
        return jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), tree
        )

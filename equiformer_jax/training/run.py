"""Everything that a configuration stands for, built once: data, model, objective and steps."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import jax
import jraph
import numpy as np
import optax
from ml_collections import config_dict

from equiformer_jax.data import batching
from equiformer_jax.data.catalog import SPLITS, load_dataset
from equiformer_jax.data.graph_building import build_graph_store
from equiformer_jax.data.graph_cache import cached_graph_store
from equiformer_jax.data.graph_packing import pack_from_store
from equiformer_jax.data.graph_store import GraphStore
from equiformer_jax.data.pipeline import (
    EpochIterator,
    EvaluationBatches,
    HostDevices,
    TrainingBatches,
    steps_per_epoch,
)
from equiformer_jax.data.statistics import DatasetStatistics, compute_statistics
from equiformer_jax.models.config import EquiformerConfig
from equiformer_jax.models.equiformer import Equiformer
from equiformer_jax.structure import Structure
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

        structures = load_dataset(config.data.name, config.data.get("options"), config.data.limits)
        sources = {split: self._graphs(structures[split], model_config) for split in splits}
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
        return batching.choose_budgets(
            self.sources["train"].sizes,
            self.config.training.batch_size,
            self.num_devices,
            self._window,
        )

    @functools.cached_property
    def fill(self) -> batching.EpochFill:
        """How full the batches of the first epoch are."""
        plan = self._training_batches.plan(epoch=0)
        return batching.fill_of_plan(plan, self.sources["train"].sizes, self.budgets)

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

    def training_batches(self, epoch: int, first_step: int = 0) -> EpochIterator:
        """The batches of an epoch, the same whenever and wherever they are asked for."""
        return self._training_batches.epoch(epoch, first_step)

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

    @property
    def _window(self) -> int:
        return self.config.data.get("balance_window", 1)

    @property
    def _host_devices(self) -> HostDevices:
        return HostDevices(self.num_devices, jax.process_index(), jax.process_count())

    @functools.cached_property
    def _training_batches(self) -> TrainingBatches:
        return TrainingBatches(
            self.sources["train"],
            self.budgets,
            batch_size=self.config.training.batch_size,
            devices=self._host_devices,
            seed=self.config.seed,
            window=self._window,
        )

    def _graphs(self, structures: Sequence[Structure], model: EquiformerConfig) -> GraphStore:
        """Graphs of a split, from the folder that the configuration names, if it names one."""
        reach, settings = (model.max_radius, model.max_neighbors), self.config.data
        workers, folder = settings.get("workers", 0), settings.get("graph_cache")
        if folder is None:
            return build_graph_store(structures, *reach, num_workers=workers, say=self._say)
        return cached_graph_store(structures, *reach, folder, num_workers=workers, say=self._say)

    def _plan_evaluation(self) -> dict[str, EvaluationBatches]:
        batch_size = self.config.training.evaluation_batch_size
        # A training evaluates the other splits; an evaluation of one split may ask for any.
        evaluated = [split for split in self.sources if split != "train"] or list(self.sources)
        plans = {
            split: EvaluationBatches(
                self.sources[split], batch_size=batch_size, devices=self._host_devices
            )
            for split in evaluated
        }
        shared = functools.reduce(batching.Budget.union, (p.budget for p in plans.values()))
        return {split: plan.padded_to(shared) for split, plan in plans.items()}

    @property
    def _example(self) -> jraph.GraphsTuple:
        source = next(iter(self.sources.values()))
        smallest = np.array([np.argmin(source.sizes.edges)])
        return pack_from_store(source, smallest, batching.budget_for([[smallest]], source.sizes))

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

"""The data of a run: structures, graphs, normalization and batches of every split."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jraph
import numpy as np
from jax.sharding import Mesh
from ml_collections import config_dict

from equiformer_jax.data import batching
from equiformer_jax.data.augmentation import Augmentation
from equiformer_jax.data.catalog import load_dataset
from equiformer_jax.data.graph_building import build_graph_store
from equiformer_jax.data.graph_cache import cached_graph_store
from equiformer_jax.data.graph_packing import pack_from_store
from equiformer_jax.data.graph_store import GraphStore
from equiformer_jax.data.normalizer import Normalizer
from equiformer_jax.data.pipeline import (
    HEADROOM,
    AugmentedStructures,
    EvaluationBatches,
    HostDevices,
    TrainingBatches,
)
from equiformer_jax.data.processes import all_succeed, decided_by_first, require_same
from equiformer_jax.data.statistics import DatasetStatistics, compute_statistics
from equiformer_jax.data.structures import StructureSequence, as_sequence
from equiformer_jax.models.config import EquiformerConfig
from equiformer_jax.training.sharding import num_data_parts, own_data_parts

Say = Callable[[str], None]


class RunData:
    """What a configuration trains on and is measured on.

    Where there are several processes, they make it together: each reads some of the structures and
    builds their graphs, and has all graphs in the end, as any of them may come up in its part of a
    batch.

    Attributes:
      structures: by split.
      stores: their graphs, labels relative to the normalizer's offsets.
      statistics: those of the training split.
      normalizer: between labels and the network's numbers.
    """

    def __init__(
        self,
        config: config_dict.ConfigDict,
        model: EquiformerConfig,
        mesh: Mesh,
        say: Say,
        statistics: DatasetStatistics | None,
        splits: Sequence[str],
        augmentation: Augmentation | None,
    ) -> None:
        """Reads the data and builds their graphs.

        Args:
          config: of the run.
          model: says how far neighbors are.
          mesh: the devices that share a batch, of all hosts.
          say: prints a line.
          statistics: those saved with the run; gathered from the training split if `None`.
          splits: which splits are needed.
          augmentation: what is done to a training structure each time it is drawn.

        Raises:
          ValueError: a part of the configuration or a record does not fit, or the training data are
            not those of the saved statistics; names it.
        """
        self._config, self._model, self._say = config, model, say
        self._mesh, self._augmentation = mesh, augmentation
        found = all_succeed(
            lambda: load_dataset(config.data.name, config.data.options, config.data.limits)
        )
        self.structures = {
            split: as_sequence(found[split], f"{config.data.name}, {split}") for split in splits
        }
        require_same(
            {f"structures, {split}": len(found) for split, found in self.structures.items()}
        )
        stores = {split: self._graphs(structures) for split, structures in self.structures.items()}
        self.statistics = decided_by_first(lambda: _statistics(stores, statistics))
        self.normalizer = Normalizer.from_settings(config.normalizer, self.statistics)
        self.stores = {
            split: store.relative_to(self.normalizer.offsets(store))
            for split, store in stores.items()
        }

    def check_limits(self) -> None:
        """Refuses data that do not fit on a device, before anything is compiled.

        Raises:
          ValueError: a structure or a batch needs more than `data.max_nodes` or `data.max_edges`;
            names the largest structure and the budget that it needs.
        """
        limits = (self._config.data.max_nodes, self._config.data.max_edges)
        for split, store in self.stores.items():
            budgets = []
            if split in self.evaluation_batches:
                budgets.append(self.evaluation_batches[split].budget)
            elif split == "train":
                budgets += self.budgets
            batching.check_limits(
                store.sizes, self.structures[split].name_of, *limits, budgets=budgets
            )

    @functools.cached_property
    def budgets(self) -> list[batching.Budget]:
        """Shapes of the training batches on one device."""
        sizes = self.stores["train"].sizes
        if self._augmented is not None:
            sizes = self._augmented.sizes_with_headroom(sizes)
        training = self._config.training
        return batching.choose_budgets(
            sizes, training.batch_size, self._num_parts, self._config.data.balance_window
        )

    @functools.cached_property
    def fill(self) -> batching.EpochFill:
        """How full the batches of the first epoch are."""
        plan = self.training_batches.plan(epoch=0)
        return batching.fill_of_plan(plan, self.stores["train"].sizes, self.budgets)

    @functools.cached_property
    def training_batches(self) -> TrainingBatches:
        """The batches of every epoch."""
        return TrainingBatches(
            self.stores["train"],
            self.budgets,
            batch_size=self._config.training.batch_size,
            devices=self._devices(self._config.training.accumulate),
            seed=self._config.seed,
            window=self._config.data.balance_window,
            augmented=self._augmented,
        )

    @functools.cached_property
    def evaluation_batches(self) -> dict[str, EvaluationBatches]:
        """Batches of the splits that are evaluated, all of one shape.

        A training evaluates the splits that it does not train on; an evaluation of one split may
        ask for any.
        """
        evaluated = [split for split in self.stores if split != "train"] or list(self.stores)
        plans = {
            split: EvaluationBatches(
                self.stores[split],
                batch_size=self._config.training.evaluation_batch_size,
                devices=self._devices(),
            )
            for split in evaluated
        }
        shared = functools.reduce(batching.Budget.union, (p.budget for p in plans.values()))
        return {split: plan.padded_to(shared) for split, plan in plans.items()}

    @property
    def example(self) -> jraph.GraphsTuple:
        """A small padded graph, to initialize a model with."""
        store = next(iter(self.stores.values()))
        smallest = np.array([np.argmin(store.sizes.edges)])
        return pack_from_store(store, smallest, batching.budget_for([[smallest]], store.sizes))

    def names_of_batch(self, epoch: int, step: int) -> list[str]:
        """The training structures of one batch, by name."""
        parts = self.training_batches.plan(epoch)[step]
        return [self.structures["train"].name_of(int(index)) for part in parts for index in part]

    @property
    def _num_parts(self) -> int:
        """Into how many parts a training batch is divided: micro-batches of all devices."""
        return num_data_parts(self._mesh) * self._config.training.accumulate

    @functools.cached_property
    def _augmented(self) -> AugmentedStructures | None:
        if self._augmentation is None:
            return None
        return AugmentedStructures(
            self.structures["train"],
            self._augmentation,
            self._model.max_radius,
            self._model.max_neighbors,
            num_workers=self._config.data.workers,
            headroom=self._config.data.get("headroom", HEADROOM),
        )

    def _devices(self, parts_of_each: int = 1) -> HostDevices:
        """Which parts of a batch this process makes, each device's one after another."""
        own = np.array(own_data_parts(self._mesh))[:, None] * parts_of_each
        return HostDevices(
            num_data_parts(self._mesh) * parts_of_each,
            jax.process_index(),
            jax.process_count(),
            own_devices=tuple((own + np.arange(parts_of_each)).ravel().tolist()),
        )

    def _graphs(self, structures: StructureSequence) -> GraphStore:
        """Graphs of a split, from the folder that the configuration names, if it names one."""
        reach, settings = (self._model.max_radius, self._model.max_neighbors), self._config.data
        how: Any = {"num_workers": settings.workers, "say": self._say, "together": True}
        if settings.graph_cache is None:
            return build_graph_store(structures, *reach, **how)
        return cached_graph_store(structures, *reach, settings.graph_cache, **how)


def _statistics(
    stores: Mapping[str, GraphStore], saved: DatasetStatistics | None
) -> DatasetStatistics:
    """The saved ones; in a training, which alone reads several splits, they must fit its data."""
    if saved is not None and len(stores) == 1:
        return saved
    found = compute_statistics(stores["train"])
    if saved is None:
        return found
    if differences := saved.differences(found):
        raise ValueError(
            "the training data are not those that this run began with: " + "; ".join(differences)
        )
    return saved

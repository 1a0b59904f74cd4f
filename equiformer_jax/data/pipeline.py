"""From stored graphs to the stream of padded batches that a training or an evaluation reads.

The batches of an epoch are a function of (seed, epoch) and of the sizes of the graphs, so that a
resumed run sees exactly what an uninterrupted one would have seen, and every host of several knows
what the others do without asking. Batches are made ahead of time in the background.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from equiformer_jax.data import batching
from equiformer_jax.data.augmented_batches import HEADROOM, AugmentedAssembler, AugmentedStructures
from equiformer_jax.data.graph_packing import pack_parts
from equiformer_jax.data.graph_store import GraphStore
from equiformer_jax.data.prefetch import Assemble, DeviceBatch, EpochIterator, Position

__all__ = [
    "HEADROOM",
    "AugmentedStructures",
    "DeviceBatch",
    "EpochIterator",
    "EvaluationBatches",
    "HostDevices",
    "Position",
    "TrainingBatches",
    "steps_per_epoch",
]


def steps_per_epoch(num_structures: int, batch_size: int) -> int:
    """Number of full batches in an epoch; the incomplete last one is dropped in training.

    Raises:
      ValueError: there are fewer structures than one batch holds.
    """
    if num_structures < batch_size:
        raise ValueError(
            f"{num_structures} training structures do not fill one batch of {batch_size}; "
            "use a smaller batch size"
        )
    return num_structures // batch_size


@dataclasses.dataclass(frozen=True)
class HostDevices:
    """Which of the devices that share a batch this process feeds.

    Attributes:
      num_devices: devices of all hosts together.
      host_index: this host, from 0; it feeds as many devices as any other.
      num_hosts: how many there are.
      own_devices: which ones it feeds, ascending; if not given, the devices of the hosts come one
        host after another.
    """

    num_devices: int
    host_index: int = 0
    num_hosts: int = 1
    own_devices: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        """Checks the numbers."""
        uneven = self.own_devices is None and self.num_devices % self.num_hosts
        if self.num_hosts < 1 or self.num_devices < 1 or uneven:
            raise ValueError(
                f"num_devices: expected a multiple of the {self.num_hosts} hosts, "
                f"got {self.num_devices}"
            )
        if not 0 <= self.host_index < self.num_hosts:
            raise ValueError(
                f"host_index: expected 0 to {self.num_hosts - 1}, got {self.host_index}"
            )
        outside = set(self.own_devices or ()) - set(range(self.num_devices))
        if outside:
            raise ValueError(
                f"own_devices: expected 0 to {self.num_devices - 1}, got {sorted(outside)}"
            )

    def own(self, parts: Sequence[np.ndarray]) -> list[np.ndarray]:
        """This host's parts of a batch, given those of all devices."""
        if self.own_devices is not None:
            return [parts[device] for device in self.own_devices]
        count = self.num_devices // self.num_hosts
        return list(parts[self.host_index * count : (self.host_index + 1) * count])


class TrainingBatches:
    """The batches of every epoch of a training.

    Attributes:
      steps_per_epoch: full batches in an epoch, the same on all hosts.
    """

    def __init__(
        self,
        store: GraphStore,
        budgets: Sequence[batching.Budget],
        *,
        batch_size: int,
        devices: HostDevices,
        seed: int,
        window: int = 1,
        augmented: AugmentedStructures | None = None,
    ) -> None:
        """Plans nothing yet.

        Args:
          store: training graphs.
          budgets: shapes to choose from, ascending (`batching.choose_budgets` of `store.sizes`, or
            of `augmented.sizes_with_headroom(store.sizes)`).
          batch_size: graphs in a batch, over all devices of all hosts.
          devices: which of them are fed here.
          seed: seed of the run.
          window: batches that are dealt together (`batching.plan_epoch`).
          augmented: makes the graphs anew of changed structures; None takes those of the store.

        Raises:
          ValueError: there are fewer graphs than one batch holds.
        """
        self.steps_per_epoch = steps_per_epoch(len(store), batch_size)
        self._store, self._budgets, self._seed = store, list(budgets), seed
        self._batch_size, self._devices, self._window = batch_size, devices, window
        self._augmented = augmented

    def plan(self, epoch: int) -> list[list[np.ndarray]]:
        """For every batch of an epoch, which graphs each device of all hosts gets."""
        order = np.random.default_rng([self._seed, epoch]).permutation(len(self._store))
        return batching.plan_epoch(
            order,
            self._store.sizes,
            batch_size=self._batch_size,
            num_devices=self._devices.num_devices,
            window=self._window,
        )

    def epoch(self, epoch: int, first_step: int = 0) -> EpochIterator:
        """The batches of one epoch, the same whenever they are asked for.

        Args:
          epoch: from 0.
          first_step: skips so many batches, to go on in the middle of an epoch: `epoch(*position)`
            goes on where an iterator with that `position` stood.

        Raises:
          ValueError: the epoch has no such step.
        """
        workers = self._augmented.num_workers if self._augmented else 0
        assemble = self._assembler(self.plan(epoch), epoch)
        return EpochIterator(assemble, epoch, first_step, self.steps_per_epoch, workers)

    def _assembler(self, plan: list[list[np.ndarray]], epoch: int) -> Assemble:
        if self._augmented is None:
            return _StoreAssembler(self._store, plan, self._budgets, self._devices)
        return AugmentedAssembler(
            self._augmented,
            self._store,
            [self._devices.own(parts) for parts in plan],
            self._budgets,
            seed=self._seed,
            epoch=epoch,
            is_alone=self._devices.num_hosts == 1,
        )


class EvaluationBatches(Sequence[DeviceBatch]):
    """Batches that hold every structure exactly once, all of one shape.

    Attributes:
      budget: that shape on one device.
    """

    def __init__(self, store: GraphStore, *, batch_size: int, devices: HostDevices) -> None:
        """Plans the batches.

        Args:
          store: graphs to evaluate.
          batch_size: graphs in a batch, over all devices of all hosts; some hold fewer.
          devices: which of them are fed here.
        """
        self._store, self._devices = store, devices
        self._plan = batching.plan_evaluation(store.sizes, batch_size, devices.num_devices)
        self.budget = batching.budget_for(self._plan, store.sizes)

    def __len__(self) -> int:
        return len(self._plan)

    def __getitem__(self, index: Any) -> Any:
        step = range(len(self))[index]
        return _StoreAssembler(self._store, self._plan, [self.budget], self._devices)(step)

    def padded_to(self, budget: batching.Budget) -> EvaluationBatches:
        """The same batches in a budget that holds theirs, so that splits can share one program."""
        batches = copy.copy(self)
        batches.budget = budget
        return batches


class _StoreAssembler:
    """Packs the graphs of this host's devices; the budget is that of the whole batch."""

    def __init__(
        self,
        store: GraphStore,
        plan: Sequence[Sequence[np.ndarray]],
        budgets: Sequence[batching.Budget],
        devices: HostDevices,
    ) -> None:
        self._store, self._plan, self._budgets, self._devices = store, plan, budgets, devices

    def __call__(self, step: int) -> DeviceBatch:
        parts = self._plan[step]
        budget = batching.smallest_fitting(self._budgets, parts, self._store.sizes)
        own = self._devices.own(parts)
        return DeviceBatch(
            graph=pack_parts(self._store, own, budget),
            indices=own,
            fill=batching.batch_fill(own, self._store.sizes, budget),
        )

"""How many structures a second the host turns into batches, stage by stage, on made-up ones.

`qm9` are open molecules of 3 to 29 atoms, 18 on average, as densely packed as those of QM9; `oc20`
are periodic slabs of 80 atoms. Rates are structures per second of processor time: what one core
can do, however busy the machine is and however many threads took part.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterable
from typing import Any

from equiformer_jax.data import batching
from equiformer_jax.data.augmentation import DenoisingCorruption
from equiformer_jax.data.graph_building import build_graph_store
from equiformer_jax.data.graph_store import GraphStore
from equiformer_jax.data.pipeline import AugmentedStructures, HostDevices, TrainingBatches
from equiformer_jax.data.structures import StructureList
from equiformer_jax.neighbors import neighbor_list
from equiformer_jax.structure import Structure
from experiments.benchmarks.structures import Maker, qm9_like, slabs

CUTOFF = 5.0  # Å


@dataclasses.dataclass(frozen=True)
class Case:
    """One kind of data.

    Attributes:
      make: gives so many structures.
      count: how many structures to time, unless another number is asked for.
      batch_size: structures in a batch.
      max_neighbors: of an atom.
    """

    make: Maker
    count: int
    batch_size: int
    max_neighbors: int | None = None


CASES = {
    "qm9": Case(qm9_like, count=4096, batch_size=128),
    "oc20_500_neighbors": Case(slabs, count=512, batch_size=32, max_neighbors=500),
    "oc20_30_neighbors": Case(slabs, count=512, batch_size=32, max_neighbors=30),
}


def run_case(case: Case, count: int | None = None) -> dict[str, Any]:
    """Times every stage of a case.

    Args:
      case: what to time.
      count: how many structures, at least one batch; `case.count` if None.

    Returns:
      `rates`: for each stage, structures per second of processor time; `stages` alone, and whole
      ways in `first_epoch` (structures, neighbor lists, batches), `later_epochs` (batches of graphs
      that are there) and `augmented_epochs` (structures changed in every epoch, with their neighbor
      lists). `slowest_stage` is what bounds the first epoch, with its `share_of_first_epoch`.
    """
    names = [field.name for field in dataclasses.fields(Structure)]
    made = case.make(count or case.count)
    fields = [{name: getattr(structure, name) for name in names} for structure in made]
    measure = _Measure(len(fields))

    structures = measure("structures", lambda: [Structure(**each) for each in fields])
    sequence = StructureList(structures, "made up", "benchmark")
    reach = (CUTOFF, case.max_neighbors)
    measure("neighbor_lists", lambda: _exhaust(neighbor_list(s, *reach) for s in structures))
    store = measure("graph_store", lambda: build_graph_store(sequence, *reach))
    stored = _batches(case, store)
    measure("later_epochs", lambda: _exhaust(stored.epoch(0)))
    augmented = AugmentedStructures(sequence, DenoisingCorruption(probability=1.0), *reach)
    changing = _batches(case, store, augmented)
    measure("augmented_epochs", lambda: _exhaust(changing.epoch(0)))

    seconds = measure.seconds
    own = {
        "structures": seconds["structures"],
        "neighbor_lists": seconds["neighbor_lists"],
        "flattening": max(seconds["graph_store"] - seconds["neighbor_lists"], 0.0),
        "batches": seconds["later_epochs"],
    }
    first = seconds["structures"] + seconds["graph_store"] + seconds["later_epochs"]
    slowest = max(own, key=lambda name: own[name])
    return {
        "structures": len(fields),
        "mean_atoms": float(store.sizes.nodes.mean()),
        "mean_edges": float(store.sizes.edges.mean()),
        "bytes_per_graph": sum(array.nbytes for array in store.arrays.values()) / len(fields),
        "rates": {**measure.rates, "first_epoch": len(fields) / first},
        "slowest_stage": slowest,
        "share_of_first_epoch": own[slowest] / first,
    }


class _Measure:
    """Processor time of this process and all its threads, by name."""

    def __init__(self, count: int) -> None:
        self._count = count
        self.seconds: dict[str, float] = {}

    def __call__(self, name: str, work: Callable[[], Any]) -> Any:
        start = time.process_time()
        result = work()
        self.seconds[name] = time.process_time() - start
        return result

    @property
    def rates(self) -> dict[str, float]:
        """Structures per second."""
        return {name: self._count / seconds for name, seconds in self.seconds.items()}


def _batches(
    case: Case, store: GraphStore, augmented: AugmentedStructures | None = None
) -> TrainingBatches:
    sizes = augmented.sizes_with_headroom(store.sizes) if augmented else store.sizes
    return TrainingBatches(
        store,
        batching.choose_budgets(sizes, case.batch_size),
        batch_size=case.batch_size,
        devices=HostDevices(1),
        seed=0,
        augmented=augmented,
    )


def _exhaust(things: Iterable[Any]) -> None:
    for _ in things:
        pass

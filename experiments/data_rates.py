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

import ase.build
import numpy as np

from equiformer_jax.data import batching
from equiformer_jax.data.augmentation import DenoisingCorruption
from equiformer_jax.data.graph_building import build_graph_store
from equiformer_jax.data.graph_store import GraphStore
from equiformer_jax.data.pipeline import AugmentedStructures, HostDevices, TrainingBatches
from equiformer_jax.data.structures import StructureList
from equiformer_jax.neighbors import neighbor_list
from equiformer_jax.structure import Structure

CUTOFF = 5.0  # Å


@dataclasses.dataclass(frozen=True)
class Case:
    """One kind of data.

    Attributes:
      make: gives the arguments of one `Structure`, drawn with a random generator.
      count: how many structures to time, unless another number is asked for.
      batch_size: structures in a batch.
      max_neighbors: of an atom.
    """

    make: Callable[[np.random.Generator], dict[str, Any]]
    count: int
    batch_size: int
    max_neighbors: int | None = None


def molecule(generator: np.random.Generator) -> dict[str, Any]:
    """Atoms bonded at random, about as many and as close to each other as in QM9."""
    count = int(np.clip(np.rint(generator.normal(18, 3)), 3, 29))
    positions = np.zeros((1, 3))
    while len(positions) < count:
        direction = generator.normal(size=3)
        bond = 1.35 * direction / np.linalg.norm(direction)
        candidate = positions[generator.integers(len(positions))] + bond
        if np.linalg.norm(positions - candidate, axis=1).min() > 0.95:
            positions = np.vstack([positions, candidate])
    return {
        "positions": positions,
        "atomic_numbers": generator.choice([1, 6, 7, 8, 9], count),
        "energy": generator.normal(),
        "forces": generator.normal(size=(count, 3)),
    }


def slab(generator: np.random.Generator) -> dict[str, Any]:
    """A relaxed surface of 80 platinum atoms, shaken, periodic in all directions as in OC20."""
    atoms = ase.build.fcc111("Pt", size=(4, 4, 5), vacuum=10.0)
    count = len(atoms)
    return {
        "positions": atoms.positions + generator.normal(0, 0.1, (count, 3)),
        "atomic_numbers": atoms.numbers,
        "cell": np.array(atoms.cell),
        "pbc": True,
        "energy": generator.normal(),
        "forces": generator.normal(size=(count, 3)),
        "tags": generator.integers(0, 3, count),
    }


CASES = {
    "qm9": Case(molecule, count=4096, batch_size=128),
    "oc20_500_neighbors": Case(slab, count=512, batch_size=32, max_neighbors=500),
    "oc20_30_neighbors": Case(slab, count=512, batch_size=32, max_neighbors=30),
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
    generator = np.random.default_rng(0)
    fields = [case.make(generator) for _ in range(count or case.count)]
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

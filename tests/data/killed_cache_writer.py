"""Run in a process of its own by test_graph_cache.py, which kills it while it builds a cache."""

from __future__ import annotations

import sys
import time

from equiformer_jax.data import graph_building
from equiformer_jax.data.graph_cache import cached_graph_store
from equiformer_jax.data.structures import StructureList
from tests.data.small_structures import CUTOFF, molecules

FINGERPRINT = "molecules of a killed process"


class Endless(StructureList):
    """Says when the last record is asked for, and never gives it."""

    def structure(self, index):
        if index == len(self) - 1:
            print("half way", flush=True)
            time.sleep(600)
        return super().structure(index)


if __name__ == "__main__":
    graph_building.STRUCTURES_PER_CHUNK = 2
    cached_graph_store(Endless(molecules(9), "endless", FINGERPRINT), CUTOFF, None, sys.argv[1])

"""The wish to stop, agreed on by the processes of a run: all end after the same step."""

from __future__ import annotations

import collections

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from equiformer_jax.training.compiled import must_run_alone
from equiformer_jax.training.interruption import Interruption
from equiformer_jax.training.sharding import replicated_sharding

# So many steps later it is seen whether a process had been asked to end: the devices always have
# steps to go on with while the host waits for an answer.
_STEPS_LATER = 4


class SharedWish:
    """Whether any process of a run has been asked to end.

    A signal reaches one process at some moment; the others may be steps ahead or behind. After each
    step the devices therefore add up the wishes of all processes, and a sum is looked at when some
    more steps are under way: every process sees the same sums after the same steps. All processes
    ask the same questions in the same order. A single process asks only itself.
    """

    def __init__(self, interruption: Interruption, mesh: Mesh) -> None:
        """Sends nothing yet.

        Args:
          interruption: the wish of this process.
          mesh: all devices of all processes.
        """
        self._interruption, self._mesh = interruption, mesh
        self._sharding = NamedSharding(mesh, PartitionSpec(mesh.axis_names))
        self._is_alone = jax.process_count() == 1
        self._add = jax.jit(jnp.sum, out_shardings=replicated_sharding(mesh))
        self._sent: collections.deque[jax.Array] = collections.deque()
        self._known = False

    def after_step(self) -> bool:
        """Whether to stop after this step; does not wait for the step."""
        if self._is_alone:
            return self._interruption.requested
        self._sent.append(self._send())
        if len(self._sent) > _STEPS_LATER:
            self._known |= bool(self._sent.popleft())
        return self._known

    def now(self) -> bool:
        """Whether any process has been asked by now; waits for all of them to ask."""
        if self._is_alone:
            return self._interruption.requested
        self._sent.clear()  # what was sent before is part of what is sent now
        self._known |= bool(self._send())
        return self._known

    def _send(self) -> jax.Array:
        wish = np.array([self._interruption.requested], np.int32)
        wishes = jax.make_array_from_callback((self._mesh.size,), self._sharding, lambda _: wish)
        total = self._add(wishes)
        return total.block_until_ready() if must_run_alone() else total

"""The wish to stop, agreed on by the processes of a run: all end after the same step."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from equiformer_jax.training.compiled import must_run_alone
from equiformer_jax.training.interruption import Interruption
from equiformer_jax.training.sharding import replicated_sharding

# After each so many steps all processes are asked, and the answer is looked at after as many more:
# the devices always have steps to go on with while the host waits for it.
_STEPS_BETWEEN = 4


class SharedWish:
    """Whether any process of a run has been asked to end.

    A signal reaches one process at some moment; the others may be steps ahead or behind. After each
    fourth step the devices therefore add up the wishes of all processes, and a sum is looked at
    when four more steps are under way: every process sees the same sums after the same steps, and a
    wish is known after eight steps at the latest. All processes ask the same questions in the same
    order. A single process asks only itself.
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
        self._sent: jax.Array | None = None
        self._num_steps = 0
        self._known = False

    def after_step(self) -> bool:
        """Whether to stop after this step; does not wait for it, nor for the three before it."""
        if self._is_alone:
            return self._interruption.requested
        self._num_steps += 1
        if self._num_steps % _STEPS_BETWEEN == 0:
            self._known |= self._sent is not None and bool(self._sent)
            self._sent = self._send()
        return self._known

    def now(self) -> bool:
        """Whether any process has been asked by now; waits for all of them to ask."""
        if self._is_alone:
            return self._interruption.requested
        self._sent = None  # what was sent before is part of what is sent now
        self._known |= bool(self._send())
        return self._known

    def _send(self) -> jax.Array:
        wish = np.array([self._interruption.requested], np.int32)
        wishes = jax.make_array_from_callback((self._mesh.size,), self._sharding, lambda _: wish)
        total = self._add(wishes)
        return total.block_until_ready() if must_run_alone() else total

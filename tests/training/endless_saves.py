"""A program that saves one checkpoint after another until it is killed, and what it saves.

    python -m tests.training.endless_saves WORKDIR

It starts when it is sent a line.
"""

from __future__ import annotations

import sys

import jax
import jax.numpy as jnp

from equiformer_jax.data.statistics import DatasetStatistics
from equiformer_jax.training import make_optimizer
from equiformer_jax.training.checkpoint import Checkpoints, RunRecord
from equiformer_jax.training.sharding import make_data_mesh, replicate
from equiformer_jax.training.state import TrainState, create_train_state
from tests.training.small_potential import initial_params

STEPS_PER_EPOCH = 4
STATISTICS = DatasetStatistics(10, -0.1 - 1e-16, 1 / 3, 15.2, 21.0, 0.7)
CONFIG = {"seed": 1, "model": {"num_layers": 6}, "training": {"log_every_steps": 0}}


def state_after(
    step: int, width: int = 7, with_average: bool = True, num_devices: int | None = 1
) -> TrainState:
    """A state whose every array says after how many steps it was."""
    params = jax.tree.map(lambda leaf: leaf + step / 7, initial_params(width))
    optimizer = make_optimizer(1e-3, 1e-2)
    state = create_train_state(params, optimizer, jax.random.key(5), with_average)
    gradients = jax.tree.map(lambda leaf: leaf * step, params)
    _, opt_state = optimizer.update(gradients, state.opt_state, params)
    average = jax.tree.map(lambda leaf: leaf - 1, params) if with_average else None
    state = state.replace(step=jnp.int32(step), opt_state=opt_state, ema_params=average)
    return replicate(state, make_data_mesh(num_devices))


def record_after(step: int, loss: float | None = 1.0, **changes) -> RunRecord:
    """The record beside it; without a loss, as an interruption leaves it."""
    values = {
        "config": CONFIG,
        "statistics": STATISTICS,
        "step": step,
        "epoch": step // STEPS_PER_EPOCH,
        "step_of_epoch": step % STEPS_PER_EPOCH,
        "metrics": {} if loss is None else {"validation_selection": loss},
        "package_version": "1.2.3",
    }
    return RunRecord(**{**values, **changes})


def main(workdir: str) -> None:
    """Goes on where the last program was killed; prints a line whenever a save has begun."""
    state_after(0, width=20_000, num_devices=None)  # compiles
    sys.stdin.readline()
    with Checkpoints(workdir) as checkpoints:
        step = checkpoints.newest_good() or 0
        while True:
            step += 1
            state = state_after(step, width=20_000, num_devices=None)
            checkpoints.save(state, record_after(step, loss=1 / step))
            print(step, flush=True)


if __name__ == "__main__":
    main(sys.argv[1])

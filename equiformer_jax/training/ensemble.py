"""Several models of one kind trained together in one program, each from its own random numbers.

Members see the same batches. They differ in their initial parameters and in their dropout, so the
spread of their predictions tells where they are unsure.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import jraph
import optax
from jax.sharding import Mesh

from equiformer_jax.training.averages import ParameterAverage
from equiformer_jax.training.gradient import Means
from equiformer_jax.training.objectives import Objective
from equiformer_jax.training.prediction import Predict
from equiformer_jax.training.sharding import Tree
from equiformer_jax.training.state import TrainState
from equiformer_jax.training.step import TrainStep, compile_train_step, traceable_train_step


def stack_members(members: Sequence[Tree]) -> Tree:
    """Puts states, or parameters, of the same structure on a new leading axis of every leaf.

    Args:
      members: at least one, each made as that of a training of its own, with its own keys.

    Raises:
      ValueError: there is none.
    """
    if not members:
        raise ValueError("members: expected at least one, got none")
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *members)


def member(stacked: Tree, index: int) -> Tree:
    """State, parameters or means of one member, as those of a training of its own."""
    return jax.tree.map(lambda leaf: leaf[index], stacked)


def make_ensemble_train_step(
    predict: Predict,
    optimizer: optax.GradientTransformation,
    objective: Objective,
    mesh: Mesh,
    *,
    accumulate: int = 1,
    average: ParameterAverage | None = None,
    skip_nonfinite: bool = False,
) -> TrainStep:
    """Builds the jitted training step of all members.

    Each member takes exactly the step of `make_train_step`, up to round-off: gradient, clipping,
    average and skipped steps are its own.

    Args:
      predict: the model.
      optimizer: the optimizer of each member.
      objective: what to minimize and what to report.
      mesh: devices that share a batch; each holds all members.
      accumulate: as in `make_train_step`.
      average: as in `make_train_step`.
      skip_nonfinite: as in `make_train_step`.

    Returns:
      `step(state, graph) -> (state, means)` with a leading member axis on every array of the state
      (`stack_members`) and on every sum and count; the graph is that of `make_train_step`.
    """
    step = traceable_train_step(
        predict,
        optimizer,
        objective,
        mesh,
        accumulate=accumulate,
        average=average,
        skip_nonfinite=skip_nonfinite,
    )

    def step_of_all(state: TrainState, graph: jraph.GraphsTuple) -> tuple[TrainState, Means]:
        return jax.vmap(step, in_axes=(0, None))(state, graph)

    return compile_train_step(step_of_all, mesh)

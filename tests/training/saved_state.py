"""What a checkpoint holds, as numbers, whatever devices and hosts have written it."""

from __future__ import annotations

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath

from equiformer_jax.training.checkpoint import Checkpoints
from equiformer_jax.training.integrity import (
    AVERAGE_ITEM,
    PARAMS_ITEM,
    TRAINING_ITEM,
    saved_shapes,
)


def saved_state(workdir, step=None):
    """Items of a checkpoint, the newest one if no step is given; random keys as their numbers."""
    with Checkpoints(workdir) as checkpoints:
        step = checkpoints.latest_step if step is None else step
        folder = checkpoints.path(step)
    items = {}
    for name in (PARAMS_ITEM, TRAINING_ITEM, AVERAGE_ITEM):
        if (folder / name).is_dir():
            items[name] = jax.tree.map(_numbers, _read(folder / name))
    return items


def _read(folder):
    device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    template = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=device),
        saved_shapes(folder),
    )
    handler = ocp.StandardCheckpointHandler()
    return handler.restore(epath.Path(folder), args=ocp.args.StandardRestore(template))


def _numbers(leaf):
    is_key = jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return np.asarray(jax.random.key_data(leaf) if is_key else leaf)

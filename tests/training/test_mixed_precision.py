"""A training in bfloat16 learns what one in float32 learns; its weights stay float32."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from equiformer_jax.data import catalog
from equiformer_jax.training import trainer
from equiformer_jax.training.checkpoint import Checkpoints
from equiformer_jax.training.metrics import read_metrics
from tests.training.tiny_run import tiny_config, tiny_splits

EPOCHS = 6


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Workdirs of the same training, by the type of the edges."""
    splits = tiny_splits()
    workdirs = {dtype: tmp_path_factory.mktemp(dtype) for dtype in ("float32", "bfloat16")}
    with pytest.MonkeyPatch.context() as patch, jax.enable_x64(False):
        patch.setitem(catalog.DATASETS, "tiny", lambda: splits)
        for dtype, workdir in workdirs.items():
            config = tiny_config(
                model__compute_dtype=dtype, model__alpha_drop=0.0, training__num_epochs=EPOCHS
            )
            trainer.train(config, workdir)
    return workdirs


def errors(workdir):
    """Mean absolute errors of validation forces, after each epoch."""
    records = read_metrics(workdir)
    return np.array([record["validation_force_mae_mev_per_angstrom"] for record in records])


@pytest.mark.slow
def test_what_is_learned_is_that_of_float32_but_for_rounding(runs):
    exact, rounded = errors(runs["float32"]), errors(runs["bfloat16"])
    learned = exact[0] - exact[-1]
    assert learned > 0.02 * exact[0], "nothing was learned that could be compared"
    assert (rounded != exact).all(), "nothing was rounded"
    np.testing.assert_allclose(rounded, exact, atol=0.1 * learned)


@pytest.mark.slow
def test_weights_and_moments_stay_float32(runs):
    with jax.enable_x64(False), Checkpoints(runs["bfloat16"]) as checkpoints:
        state = checkpoints._manager.restore(checkpoints.latest_step)
    leaves = jax.tree.leaves((state["params"], state["training"]))
    floats = {leaf.dtype for leaf in leaves if jnp.issubdtype(leaf.dtype, jnp.floating)}
    assert floats == {np.dtype("float32")}

"""Workdirs as trainings leave them, without training."""

from __future__ import annotations

import jax

from equiformer_jax.data.statistics import DatasetStatistics
from equiformer_jax.training.checkpoint import Checkpoints
from equiformer_jax.training.configuration import to_plain
from equiformer_jax.training.ensemble import stack_members
from equiformer_jax.training.optimizer import make_optimizer
from equiformer_jax.training.run_record import SELECTION_METRIC, RunRecord
from equiformer_jax.training.state import create_train_state
from equiformer_jax.training.workdir import save_config
from experiments.configs import parts
from tests.inference.small_potentials import TINY, variables_of

STATISTICS = DatasetStatistics(
    num_structures=10,
    energy_mean=-400.0,
    energy_std=2.0,
    average_degree=3.0,
    average_nodes=4.0,
    force_rms=1.0,
    element_counts={1: 20, 6: 20, 7: 5, 8: 10},
    reference_energies={1: -13.0, 6: -1030.0, 7: -1480.0, 8: -2040.0},
    reference_energies_unique=True,
    energy_std_referenced=0.5,
)


def energy_force_settings(**changes):
    """The configuration of a run; changes have dotted names, dots written as two underscores."""
    small = {"num_heads": 2, "fc_neurons": (8, 8), "number_of_basis": 8}
    config = parts.experiment(
        seed=0,
        model=parts.model("md17_l2_linear", **(TINY | small)),
        data=parts.data("files", train="a file that is not there"),
        objective=parts.energies_and_forces(energy_weight=1.0, force_weight=10.0),
        optimizer=parts.adamw(learning_rate=1e-2, weight_decay=1e-3),
        schedule=parts.cosine_epochs(warmup_epochs=1),
        training=parts.training(num_epochs=3, batch_size=4, evaluation_batch_size=4),
    )
    config.update_from_flattened_dict({k.replace("__", "."): v for k, v in changes.items()})
    return config


def params_after(model, step):
    """What `write_run` puts into the checkpoint after so many steps."""
    return variables_of(model, seed=step)["params"]


def write_run(workdir, config, model, losses, average=False, members=1):
    """Writes the configuration, and checkpoints with random weights.

    Args:
      workdir: where to.
      config: of the run.
      model: its `EquiformerConfig`.
      losses: steps -> validation loss, `None` where it has not been validated.
      average: whether there is a moving average: twice the weights.
      members: more than 1 for an ensemble; the first one has the weights of `params_after`.
    """
    optimizer = make_optimizer(1e-3, 0.0)
    with Checkpoints(workdir, keep_latest=len(losses)) as checkpoints:
        for step, loss in losses.items():
            own = [params_after(model, step + 1000 * index) for index in range(members)]
            params = jax.device_put(own[0] if members == 1 else stack_members(own))
            state = create_train_state(params, optimizer, jax.random.key(1), with_average=average)
            if average:
                state = state.replace(ema_params=jax.tree.map(lambda leaf: 2 * leaf, params))
            record = RunRecord(
                config=to_plain(config),
                statistics=STATISTICS,
                step=step,
                epoch=step,
                step_of_epoch=0,
                metrics={} if loss is None else {SELECTION_METRIC: loss},
                package_version="test",
            )
            checkpoints.save(state, record)
    save_config(workdir, to_plain(config))

r"""The user's own data: extended xyz, or whatever else ASE reads.

    python -m experiments.train --config=experiments/configs/extxyz.py:train.xyz --workdir=DIR
    python -m experiments.train --config=experiments/configs/extxyz.py:train.xyz \
        --config.training.start_from=OTHER_WORKDIR --config.optimizer.learning_rate=1e-4 ...

The file follows the colon; `validation` and `test` name further files. Where they are not given, a
tenth of the frames is taken for each: at random, or, with `order=blocks`, from the end of a
trajectory, with a gap, so that no frame to test on is a neighbor of one to train on. `preset` picks
the model. Names and units of the labels are fields of `data.options`, such as
`--config.data.options.energy=REF_energy --config.data.options.energy_unit=hartree`. Systems of very
different sizes fill their batches better with `--config.data.balance_window=64`.

Labels are standardized with the mean and deviation of the training frames, and weights that a run
starts from predict in the unit of the run that they come from: to keep it, give that run's numbers
(its `statistics.json`) as `--config.normalizer.mean=… --config.normalizer.std=…`.
"""

from __future__ import annotations

from ml_collections import config_dict

from experiments.configs import parts


def get_config(argument: str | None = None) -> config_dict.ConfigDict:
    """A training on files; the module's text lists the options."""
    options = parts.parse_argument(
        argument, "train", train="", validation="", test="", order="random", preset="md17_l2"
    )
    return parts.experiment(
        seed=1,
        model=parts.model(options["preset"]),
        data=parts.data(
            "files",
            train=options["train"],
            validation=options["validation"],
            test=options["test"],
            order=options["order"],
            split_seed=1,
            energy="energy",
            forces="forces",
            stress="stress",
            energy_unit="eV",
            force_unit="eV/A",
            stress_unit="eV/A^3",
            stress_kind="stress",
        ),
        objective=parts.energies_and_forces(energy_weight=1.0, force_weight=80.0),
        optimizer=parts.adamw(learning_rate=5e-4, weight_decay=1e-6),
        schedule=parts.cosine_epochs(warmup_epochs=5),
        training=parts.training(num_epochs=200, batch_size=8, evaluation_batch_size=16),
    )

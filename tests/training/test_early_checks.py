from __future__ import annotations

import pytest

from equiformer_jax.training import trainer
from equiformer_jax.training.early_checks import check_configuration
from experiments.configs import md17, oc20_is2re
from tests.training.tiny_run import tiny_config


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("training.num_epochs", 0, "num_epochs=0; expected at least 1"),
        ("training.batch_size", 0, "training.batch_size=0; expected at least 1"),
        ("training.evaluation_batch_size", 0, "evaluation_batch_size=0; expected at least 1"),
        ("training.accumulate", 0, "training.accumulate=0; expected at least 1"),
        ("training.keep_checkpoints", 0, "keep_checkpoints=0; expected at least 1"),
        ("training.test_batches", 0, "test_batches=0; expected at least 1"),
        ("training.test_every_epochs", -1, "test_every_epochs=-1; expected at least 0"),
        ("training.log_every_steps", -1, "log_every_steps=-1; expected at least 0"),
        ("training.report", "average", r"report='average'; known are \['last', 'best'\]"),
        ("seed", -1, "config.seed=-1; expected at least 0"),
        ("schedule.warmup_epochs", 9, "warmup_epochs=9; expected between 0 and num_epochs=3"),
        ("optimizer.ema_decay", 1.0, "decay=1.0; expected"),
        ("objective.force_error", "l3", "config.objective: force_error='l3'"),
        ("model.num_heads", 0, "num_heads"),
    ],
)
def test_a_value_that_does_not_fit_is_named_before_the_workdir_is_made(
    tmp_path, field, value, message
):
    config = tiny_config()
    config.update_from_flattened_dict({field: value})
    with pytest.raises(ValueError, match=message):
        trainer.train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("config", "field"),
    [
        (oc20_is2re.get_config("aux"), "use_auxiliary_task"),
        (md17.get_config("aspirin,dens"), "use_denoising"),
    ],
)
def test_an_objective_needs_a_model_with_its_head(config, field):
    check_configuration(config)
    config.model[field] = False
    with pytest.raises(ValueError, match=f"config.model.{field}=True"):
        check_configuration(config)


def test_a_part_that_is_missing_is_named():
    config = tiny_config()
    del config["schedule"]
    with pytest.raises(ValueError, match=r"config has no \['schedule'\]"):
        check_configuration(config)

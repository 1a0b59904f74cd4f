from __future__ import annotations

from equiformer_jax.training.progress import epoch_line, step_line

RECORD = {
    "epoch": 2, "step": 140, "step_of_epoch": 40, "loss": 0.12345, "learning_rate": 5e-4,
    "structures_per_second": 27.36, "train_energy_mae_mev": 12.34, "train_loss/energy": 1.0,
    "train_force_mae_mev_per_angstrom": 45.6, "validation_energy_mae_mev": 23.4,
}  # fmt: skip


def test_a_line_inside_an_epoch():
    assert step_line(RECORD, 100, seconds_left=3725) == (
        "  step 140 (40/100) | loss 0.123 | energy 12.34 meV, force 45.6 meV/Å | rate 5.0e-04 | "
        "27.4 structures/s | 1:02:05 left"
    )


def test_a_line_of_an_epoch():
    assert epoch_line(RECORD, 10, seconds_left=59) == (
        "epoch  2/10 | loss 0.123 | train energy 12.34 meV, force 45.6 meV/Å | "
        "validation energy 23.4 meV | rate 5.0e-04 | 27.4 structures/s | 0:59 left"
    )

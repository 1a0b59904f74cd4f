from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from experiments import generate_aspirin
from experiments.aspirin import dynamics, molecule, report

PROTOCOL = dynamics.Protocol(
    seed=0,
    trajectories=1,
    temperature_kelvin=500.0,
    timestep_fs=0.5,
    friction_per_fs=0.01,
    spacing_fs=10.0,
    equilibration_fs=20.0,
    gap_fs=30.0,
    frames=(3, 1, 2),
)


def rough_molecule():
    rows = [line.split() for line in molecule.ROUGH_GEOMETRY.strip().splitlines()]
    numbers = np.array([{"H": 1, "C": 6, "O": 8}[row[0]] for row in rows])
    return numbers, np.array([[float(x) for x in row[1:]] for row in rows])


def test_schedule_puts_gaps_between_blocks():
    times_fs = {step * PROTOCOL.timestep_fs: split for step, split in PROTOCOL.schedule().items()}
    assert times_fs == {20: 0, 30: 0, 40: 0, 80: 1, 120: 2, 130: 2}
    assert PROTOCOL.trajectory_steps() == 260
    assert PROTOCOL.trajectory_start_fs(2) == 2 * (130.0 + 30.0)


def test_a_time_between_two_steps_is_refused():
    with pytest.raises(ValueError, match=r"10.2 fs is not a whole number of 0.5 fs steps"):
        dataclasses.replace(PROTOCOL, spacing_fs=10.2).schedule()


def test_rough_geometry_is_aspirin():
    molecule.check_molecule(*rough_molecule(), where="start")


def test_a_broken_molecule_is_refused():
    numbers, positions = rough_molecule()
    positions[20] += [0.0, 1.0, 0.0]
    with pytest.raises(RuntimeError, match=r"frame 7: .* bonds lost \[\(12, 20\)\]"):
        molecule.check_molecule(numbers, positions, where="frame 7")


def test_positions_that_are_not_finite_are_refused():
    numbers, positions = rough_molecule()
    positions[3, 1] = np.nan
    with pytest.raises(RuntimeError, match=r"frame 7: the positions are not finite"):
        molecule.check_molecule(numbers, positions, where="frame 7")


def test_autocorrelation_of_a_first_order_process():
    generator = np.random.default_rng(0)
    memory, length = 0.9, 20_000
    values = np.zeros((4, length, 1))
    noise = generator.standard_normal(values.shape)
    for step in range(1, length):
        values[:, step] = memory * values[:, step - 1] + noise[:, step]
    correlation = report.autocorrelation(list(values))
    lags = np.arange(20)
    np.testing.assert_allclose(correlation[lags], memory**lags, atol=0.05)


def test_integrated_time_ends_at_the_first_zero():
    correlation = np.array([1.0, 0.5, 0.25, -0.1, 0.3])
    assert report.integrated_time(correlation, 5.0) == pytest.approx(5.0 * (0.5 + 0.5 + 0.25))


def test_trajectories_that_stay_apart_are_correlated():
    generator = np.random.default_rng(0)
    series = [side + 0.1 * generator.standard_normal((100, 1)) for side in (-1.0, 1.0)]
    assert report.autocorrelation(series)[10:40].min() > 0.9


@pytest.mark.parametrize("degrees", [-170.0, -60.0, 0.0, 35.0, 120.0])
def test_dihedral_directions(degrees):
    angle = np.radians(degrees)
    last = [np.cos(angle), np.sin(angle), 1.5]
    positions = np.array([[[1.0, 0.0, -0.5], [0.0, 0.0, 0.0], [0.0, 0.0, 1.0], last]])
    direction = report.dihedral_directions(positions, (0, 1, 2, 3))
    np.testing.assert_allclose(direction, [[np.cos(angle), np.sin(angle)]], atol=1e-12)


def test_saving_refuses_what_is_not_finite_and_keeps_the_old_file(tmp_path):
    path = tmp_path / "data.npz"
    generate_aspirin.save_atomically(path, {"energies": np.zeros(2)})
    with pytest.raises(ValueError, match=r"data.npz: 'energies' holds values that are not finite"):
        generate_aspirin.save_atomically(path, {"energies": np.array([0.0, np.inf])})
    with np.load(path) as file:
        np.testing.assert_array_equal(file["energies"], [0.0, 0.0])
    assert [file.name for file in tmp_path.iterdir()] == ["data.npz"]


@pytest.mark.slow
def test_a_short_run_gives_labelled_frames_and_a_readme():
    pytest.importorskip("tblite", reason="making data needs tblite")
    start = molecule.relaxed_aspirin()
    run = dynamics.run_trajectory(start, PROTOCOL, index=0)
    again = dynamics.run_trajectory(start, PROTOCOL, index=0)
    for name, values in run.frames.items():
        np.testing.assert_array_equal(values, again.frames[name])

    assert run.frames["split"].tolist() == [0, 0, 0, 1, 2, 2]
    assert run.frames["times_fs"].tolist() == [20.0, 30.0, 40.0, 80.0, 120.0, 130.0]
    assert run.recorded_positions.shape == (23, 21, 3)  # every 5 fs from 20 fs to 130 fs
    energy, forces = molecule.label(start.numbers, run.frames["positions"][4].astype(np.float64))
    assert run.frames["energies"][4] == pytest.approx(energy, abs=1e-9)
    np.testing.assert_allclose(run.frames["forces"][4], forces, atol=1e-6)

    text = report.readme("data.npz", run.frames, PROTOCOL, [run])
    assert "--frames=3,1,2" in text
    assert "CC0" in text

"""The program that shows a data set, run as a user runs it."""

from __future__ import annotations

import subprocess
import sys

import numpy as np

from tests.data.readers.lmdb_samples import WRITERS, oc20_fields, write_lmdb
from tests.data.readers.qm9_samples import write_npz
from tests.paths import REPOSITORY

CONFIG = """
from experiments.configs import {name}

def get_config():
    config = {name}.get_config({argument!r})
    config.data.unlock()
    config.data.options = {options!r}
    config.training.batch_size = 1
    return config
"""


def inspect(folder, name, argument, **options):
    config = folder / "config.py"
    config.write_text(CONFIG.format(name=name, argument=argument, options=options))
    command = [sys.executable, "-m", "experiments.inspect_data", f"--config={config}"]
    return subprocess.run(
        [*command, f"--output={folder / 'data.png'}"],
        cwd=REPOSITORY,
        env={"PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
    )


def test_a_target_of_qm9_has_its_own_name_and_unit(tmp_path):
    places = np.repeat(np.arange(30), [3] * 30)
    generator = np.random.default_rng(0)
    arrays = {
        "mol_id": np.arange(1, 31),
        "n_atoms": np.full(30, 3),
        "z": np.tile(np.array([8, 1, 1], np.uint8), 30),
        "pos": np.tile(np.eye(3), (30, 1)) * (1 + places[:, None] / 100),
        "y": generator.normal(size=(30, 19)),
        "uncharacterized": np.zeros(30, bool),
    }
    file = write_npz(tmp_path / "qm9.npz", **arrays)
    finished = inspect(tmp_path, "qm9", "alpha", target="alpha", file=str(file), scaled_split=True)
    assert finished.returncode == 0, finished.stderr
    assert "  alpha (a0^3)     mean " in finished.stdout
    assert "energy" not in finished.stdout
    assert (tmp_path / "data.png").read_bytes().startswith(b"\x89PNG")


def test_structures_that_cannot_be_read_are_told_though_there_is_nothing_to_draw(tmp_path):
    unlabeled = {name: value for name, value in oc20_fields().items() if name != "y_relaxed"}
    file = str(write_lmdb(tmp_path / "a.lmdb", [WRITERS["version 1"](unlabeled)]))
    finished = inspect(tmp_path, "oc20_is2re", "linear", train=file, validation=file, test=file)
    assert finished.returncode == 1
    assert "ERROR: train: 1 structures cannot be read" in finished.stdout
    assert "a.lmdb: record 0: 'relaxed_energy': missing; expected a label" in finished.stdout


def test_what_cannot_be_opened_is_one_line(tmp_path):
    finished = inspect(tmp_path, "md17", "ethanol", molecule="ethanol", file="nowhere.npz")
    assert finished.returncode == 1
    assert finished.stderr == ("FileNotFoundError: data.options.file: nowhere.npz is not there\n")

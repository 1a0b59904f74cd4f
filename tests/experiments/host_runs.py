"""Trainings of seconds as one process or as two, of several virtual devices each, by command."""

from __future__ import annotations

import itertools
import os
import pathlib
import socket
import subprocess
import sys
import time

import ase.io

import equiformer_jax as eqf
from equiformer_jax.training.metrics import read_metrics
from experiments.configs import extxyz
from tests.paths import REPOSITORY
from tests.training.tiny_run import tiny_molecules

SPLITS = {"train": 60, "validation": 9, "test": 11}
STEPS, STEPS_PER_EPOCH = 20, 10
BATCH = 6  # of eight devices, two have nothing to do
# An array of 32 x 32 is large enough to be divided over devices.
OVERRIDES = {
    "model.num_layers": 1,
    "model.num_heads": 2,
    "model.irreps_node_embedding": "4x0e+2x1e",
    "model.irreps_sh": "1x0e+1x1e",
    "model.irreps_head": "2x0e+1x1e",
    "model.irreps_mlp_mid": "4x0e+2x1e",
    "model.irreps_feature": "4x0e",
    "model.fc_neurons": (32, 32),
    "model.number_of_basis": 4,
    "optimizer.ema_decay": 0.9,
    "optimizer.learning_rate": 5e-3,
    "schedule.warmup_epochs": 1,
    "training.num_epochs": STEPS // STEPS_PER_EPOCH,
    "training.batch_size": BATCH,
    "training.log_every_steps": 1,
    "mesh.shard_optimizer": True,
}


def write_splits(folder):
    """Writes the molecules; returns the argument of the configuration."""
    for seed, (split, count) in enumerate(SPLITS.items()):
        # Of four or five atoms, so that all batches have one shape: less to compile.
        large = (
            molecule for molecule in tiny_molecules(3 * count, seed) if len(molecule.positions) > 3
        )
        molecules = [eqf.structure_to_ase(molecule) for molecule in itertools.islice(large, count)]
        ase.io.write(folder / f"{split}.xyz", molecules)
    return ",".join(f"{split}={folder / split}.xyz" for split in SPLITS)


def configuration(argument):
    """What the flags of `start` make of the configuration."""
    config = extxyz.get_config(argument)
    config.update_from_flattened_dict(OVERRIDES)
    return config


class Processes:
    """One training as several processes, started."""

    def __init__(self, program, commands, log_folder, devices_of_each):
        """Starts them; what they print goes to files."""
        address = f"127.0.0.1:{free_port()}"
        self.logs, self.processes = [], []
        for process, arguments in enumerate(commands):
            place = []
            if len(commands) > 1:
                place = [
                    f"--coordinator_address={address}",
                    f"--num_processes={len(commands)}",
                    f"--process_id={process}",
                ]
            log = pathlib.Path(log_folder) / f"log_{time.monotonic_ns()}.txt"
            self.logs.append(log)
            self.processes.append(
                subprocess.Popen(
                    [sys.executable, "-m", f"experiments.{program}", *arguments, *place],
                    cwd=REPOSITORY,
                    env=environment(devices_of_each),
                    stdout=log.open("w"),
                    stderr=subprocess.STDOUT,
                )
            )

    def wait(self, timeout=300):
        """Exit statuses of all."""
        deadline = time.monotonic() + timeout
        try:
            return [process.wait(deadline - time.monotonic()) for process in self.processes]
        finally:
            for process in self.processes:
                process.kill()

    def texts(self):
        """What each of them has printed."""
        return [log.read_text() for log in self.logs]


def start_training(workdir, argument, num_processes, devices_of_each, more_of_each=((), ())):
    arguments = [
        f"--config=experiments/configs/extxyz.py:{argument}",
        f"--workdir={workdir}",
        *(f"--config.{name}={value}" for name, value in OVERRIDES.items()),
    ]
    commands = [[*arguments, *more] for more in more_of_each[:num_processes]]
    return Processes("train", commands, workdir.parent, devices_of_each)


def wait_for_new_record(workdir, processes, timeout=300):
    """Waits until a record is in the log of the run that is not there now.

    A run that goes on from its last checkpoint first removes the records after it.
    """
    deadline, before = time.monotonic() + timeout, read_metrics(workdir)
    while all(record in before for record in read_metrics(workdir)):
        assert time.monotonic() < deadline, processes.texts()
        assert all(p.poll() is None for p in processes.processes), processes.texts()
        time.sleep(0.005)


def environment(num_devices):
    flags = f"--xla_force_host_platform_device_count={num_devices}"
    return {
        **os.environ,
        "JAX_ENABLE_X64": "1",
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} {flags}",
    }


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]

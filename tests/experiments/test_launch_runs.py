"""The launch scripts at work, with stand-ins for the training, for SLURM and for Google Cloud."""

from __future__ import annotations

import signal
import subprocess

import pytest

from tests.experiments.launch_tools import (
    LAUNCH,
    SETTINGS,
    TRAINING,
    environment,
    install,
    launch,
    wait_until,
    with_tools,
)


@pytest.fixture
def settings(tmp_path):
    """Variables of a run whose training is a stand-in that a file `end` in HOME ends."""
    tools = tmp_path / "tools"
    python = install(tools, "training", TRAINING)
    own = {
        "HOME": str(tmp_path),
        "PATH": with_tools(tools),
        "PYTHON": str(python),
        "WORKDIR": str(tmp_path / "run"),
        "LAUNCH_LABEL": "here",
    }
    yield SETTINGS | own
    launch("workstation.sh", "stop", **(SETTINGS | own))


def log_of(tmp_path):
    log = tmp_path / "run" / "launch" / "here" / "log"
    return log.read_text() if log.exists() else ""


def status(settings):
    return launch("workstation.sh", "status", **settings).stdout.strip()


def start(tmp_path, settings):
    before = log_of(tmp_path).count("training,")
    started = launch("workstation.sh", "start", **settings)
    assert started.returncode == 0, started.stderr
    wait_until(lambda: log_of(tmp_path).count("training,") > before)


def test_a_run_is_started_once_stopped_and_resumed(tmp_path, settings):
    assert status(settings) == "none"
    start(tmp_path, settings)
    assert status(settings) == "running"
    again = launch("workstation.sh", "start", **settings)
    assert again.returncode == 1
    assert "is being trained already" in again.stderr
    assert launch("workstation.sh", "stop", **settings).stdout.strip() == "stopped"
    assert log_of(tmp_path).count("saved") == 1
    start(tmp_path, settings)
    (tmp_path / "end").write_text("0")
    wait_until(lambda: status(settings) == "finished")


def test_a_failure_keeps_its_status(tmp_path, settings):
    (tmp_path / "end").write_text("7")
    start(tmp_path, settings)
    wait_until(lambda: status(settings) == "failed 7")


def test_the_end_of_the_machine_is_not_signaled_twice(tmp_path, settings):
    start(tmp_path, settings)
    pid = (tmp_path / "run" / "launch" / "here" / "pid").read_text().strip()
    subprocess.run(["kill", "-TERM", pid], check=True)
    subprocess.run(["sleep", "0.2"], check=True)
    assert status(settings) == "running"
    assert "saved" not in log_of(tmp_path)


def test_a_killed_run_is_gone(tmp_path, settings):
    start(tmp_path, settings)
    pid = (tmp_path / "run" / "launch" / "here" / "pid").read_text().strip()
    subprocess.run(["kill", "-KILL", pid], check=True)
    wait_until(lambda: status(settings) == "gone")
    (tmp_path / "end").write_text("0")  # ends the training, which has lost its parent


# ---- SLURM


@pytest.fixture
def cluster(tmp_path, settings):
    tools = tmp_path / "tools"
    step = 'while [[ $1 == --* ]]; do shift; done\necho $$ >"$HOME/step"\nexec "$@"\n'
    install(tools, "srun", step)
    install(tools, "scancel", 'echo "$@" >"$HOME/canceled"; kill -TERM "$(<"$HOME/step")"\n')
    install(tools, "scontrol", 'echo "$@" >"$HOME/control"\n')
    return settings | {"SLURM_JOB_ID": "7", "SLURM_SUBMIT_DIR": str(LAUNCH.parents[1])}


def test_slurm_saves_and_requeues_before_the_time_limit(tmp_path, cluster):
    with subprocess.Popen(
        ["bash", LAUNCH / "slurm.sbatch"], env=environment(**cluster), stdout=subprocess.PIPE
    ) as job:
        assert b"training" in job.stdout.readline()
        job.send_signal(signal.SIGUSR1)
        assert job.wait(10) == 1
        assert b"saved" in job.stdout.read()
    assert (tmp_path / "canceled").read_text() == "--signal=TERM 7\n"
    assert (tmp_path / "control").read_text() == "requeue 7\n"


@pytest.mark.parametrize("end", ["0", "3"])
def test_slurm_does_not_requeue_what_has_ended_by_itself(tmp_path, cluster, end):
    (tmp_path / "end").write_text(end)
    assert launch("slurm.sbatch", **cluster).returncode == int(end)
    assert not (tmp_path / "control").exists()


def test_slurm_gives_a_process_of_a_whole_node_all_its_devices(tmp_path, cluster):
    (tmp_path / "end").write_text("0")
    node = {"SLURM_NTASKS_PER_NODE": "1", "SLURM_GPUS_ON_NODE": "4"}
    assert "devices 0,1,2,3" in launch("slurm.sbatch", **cluster, **node).stdout
    node["SLURM_NTASKS_PER_NODE"] = "4"
    assert "devices all" in launch("slurm.sbatch", **cluster, **node).stdout


# ---- TPUs

GCLOUD = r"""
case "$*" in
  *"queued-resources describe"*)
    if [[ -s $HOME/queue ]]; then cat "$HOME/queue"; else echo "NOT_FOUND" >&2; exit 1; fi
    exit ;;
  *"value(networkEndpoints"*) cat "$HOME/addresses"; exit ;;
  *"tpu-vm describe"*) echo READY; exit ;;
esac
case "$*" in
  *"queued-resources create"*) event=create; echo ACTIVE >"$HOME/queue" ;;
  *"queued-resources delete"*) event=delete; rm -f "$HOME/queue" ;;
  *"tpu-vm scp"*aspirin*) event=fetch ;;
  *"tpu-vm scp"*) event=copy ;;
  *setup.sh*) event=setup ;;
  *tpu_worker.sh\ start*) event=start ;;
  *tpu_worker.sh\ stop*) event=stop ;;
  *tpu_worker.sh\ status*)
    state=$(head -n 1 "$HOME/states")
    sed -i 1d "$HOME/states"
    if [[ $state == preempted ]]; then echo SUSPENDED >"$HOME/queue"; exit 255; fi
    echo "$state"
    exit ;;
esac
echo "$event" >>"$HOME/events"
"""


@pytest.fixture
def cloud(tmp_path, settings):
    install(tmp_path / "tools", "gcloud", GCLOUD)
    install(tmp_path / "tools", "git", "")
    (tmp_path / "addresses").write_text("10.0.0.3;10.0.0.4\n")
    return settings | {"WAIT_SECONDS": "0.01"}


def keep(tmp_path, cloud, *states, **settings):
    (tmp_path / "states").write_text("\n".join(states) + "\n")
    finished = launch("tpu_keep.sh", str(tmp_path / "results"), **cloud, **settings)
    return finished, (tmp_path / "events").read_text().split()


OBTAINED = ["create", "copy", "setup", "start"]


def test_a_preempted_tpu_is_made_anew_and_goes_on(tmp_path, cloud):
    finished, events = keep(tmp_path, cloud, "running", "preempted", "running", "finished")
    assert finished.returncode == 0, finished.stderr
    assert events == [*OBTAINED, "delete", *OBTAINED, "fetch", "delete"]


def test_a_failing_training_is_started_again_a_few_times(tmp_path, cloud):
    states = ("failed 1", "running", "failed 1", "failed 1")
    finished, events = keep(tmp_path, cloud, *states, MAX_FAILURES="2")
    assert finished.returncode == 1
    assert "has failed 3 times" in finished.stderr
    assert events == [*OBTAINED, *(["stop", "copy", "setup", "start"] * 2)]


def test_a_loop_that_is_started_again_takes_the_tpu_that_is_there(tmp_path, cloud):
    (tmp_path / "queue").write_text("ACTIVE\n")
    _, events = keep(tmp_path, cloud, "running", "finished")
    assert events == ["fetch", "delete"]


def test_a_pod_needs_a_shared_file_system(tmp_path, cloud):
    refused = launch("tpu.sh", "launch", **(cloud | {"STORAGE": "gs://some-bucket"}))
    assert refused.returncode == 1
    assert "has several hosts" in refused.stderr
    assert not (tmp_path / "events").exists()


BUCKET = r"""
shift 2
places=()
for word in "$@"; do
  case $word in
    gs://*) places+=("$HOME/../${word#gs://}") ;;
    --*) ;;
    *) places+=("$word") ;;
  esac
done
mkdir -p "$(dirname "${places[1]}")"
cp -R "${places[0]}$([[ -d ${places[0]} ]] && echo /. || true)" "${places[1]}"
"""


def test_a_run_comes_back_from_the_bucket_on_another_machine(tmp_path, settings):
    install(tmp_path / "tools", "gcloud", BUCKET)
    writing = 'case "$*" in *--dry_run*) ;; *) ls "$HOME/runs/aspirin"; ' + (
        f'mkdir -p "$HOME/runs/aspirin/checkpoints/5" ;; esac\n{TRAINING}'
    )
    install(tmp_path / "tools", "training", writing)
    storage = {"STORAGE": "gs://some-bucket", "COPY_SECONDS": "0.1"}
    for machine in ("first", "second"):
        home = tmp_path / machine
        home.mkdir()
        (home / "end").write_text("0")
        there = settings | storage | {"HOME": str(home)}
        started = launch("tpu_worker.sh", "start", **there)
        assert started.returncode == 0, started.stderr
        wait_until(lambda: launch("tpu_worker.sh", "status", **there).stdout == "finished\n")  # noqa: B023
        assert (tmp_path / "some-bucket" / "aspirin" / "checkpoints" / "5").is_dir()
        (log,) = (home / "runs" / "aspirin" / "launch").glob("worker-*/log")
        assert ("checkpoints" in log.read_text()) == (machine == "second")


def test_slurm_keeps_compiled_programs_beside_the_run(tmp_path, cluster):
    (tmp_path / "end").write_text("0")
    cluster |= {"JAX_COMPILATION_CACHE_DIR": ""}
    assert f"programs {tmp_path}/jax_cache" in launch("slurm.sbatch", **cluster).stdout
    cluster |= {"JAX_COMPILATION_CACHE_DIR": "/elsewhere"}
    assert "programs /elsewhere" in launch("slurm.sbatch", **cluster).stdout

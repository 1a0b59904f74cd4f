"""The launch scripts at work, with stand-ins for the training, for SLURM and for Google Cloud."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess

import pytest

from tests.experiments.launch_tools import (
    BUCKET,
    GCLOUD,
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


def test_a_training_that_was_asked_to_end_on_another_host_is_stopped_too(tmp_path, settings):
    (tmp_path / "end").write_text(str(os.EX_TEMPFAIL))
    start(tmp_path, settings)
    wait_until(lambda: status(settings) == "stopped")


@pytest.mark.parametrize(
    ("reaction", "end"),
    [
        ("trap 'echo not saved; exit 1' TERM", "failed 1"),
        ("trap - TERM", "stopped"),  # nobody listens: the signal ends it
    ],
)
def test_a_training_that_was_asked_to_end_has_failed_if_it_could_not_save(
    tmp_path, settings, reaction, end
):
    own = TRAINING.replace("trap 'echo saved; exit 75' TERM", reaction)
    assert own != TRAINING
    install(tmp_path / "tools", "training", own)
    start(tmp_path, settings)
    assert launch("workstation.sh", "stop", **settings).stdout.strip() == end


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
        assert job.wait(10) == os.EX_TEMPFAIL
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


@pytest.fixture
def cloud(tmp_path, settings):
    install(tmp_path / "tools", "gcloud", GCLOUD)
    install(tmp_path / "tools", "git", "")
    (tmp_path / "addresses").write_text("10.0.0.3;10.0.0.4\n")
    (tmp_path / "broken").touch()
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


def test_a_training_that_was_stopped_has_not_failed(tmp_path, cloud):
    states = ("stopped", "stopped", "failed 1", "finished")
    finished, events = keep(tmp_path, cloud, *states, MAX_FAILURES="1")
    assert finished.returncode == 0, finished.stderr
    assert events == [*OBTAINED, *(["stop", "copy", "setup", "start"] * 3), "fetch", "delete"]


@pytest.mark.parametrize(
    ("broken", "ending"),
    [
        ("fetch ACTIVE", ["fetch", "fetch", "delete"]),
        ("fetch SUSPENDED", ["fetch", "delete", *OBTAINED, "fetch", "delete"]),
        ("delete ACTIVE", ["fetch", "delete", "delete"]),
        ("delete", ["fetch", "delete"]),  # it is gone all the same
    ],
)
def test_what_fails_after_the_training_is_done_again(tmp_path, cloud, broken, ending):
    (tmp_path / "broken").write_text(f"{broken}\n")
    finished, events = keep(tmp_path, cloud, "finished", "finished")
    assert finished.returncode == 0, finished.stderr
    assert events == [*OBTAINED, *ending]


@pytest.mark.parametrize(
    ("states", "replaced"),
    [
        (("unreachable", "running", "unreachable", "finished"), []),
        (("unreachable", "unreachable", "unreachable", "finished"), ["delete", *OBTAINED]),
    ],
)
def test_a_tpu_that_does_not_answer_for_long_is_replaced(tmp_path, cloud, states, replaced):
    finished, events = keep(tmp_path, cloud, *states, MAX_UNREACHABLE="2")
    assert finished.returncode == 0, finished.stderr
    assert events == [*OBTAINED, *replaced, "fetch", "delete"]


def test_a_loop_that_is_started_again_takes_the_tpu_that_is_there(tmp_path, cloud):
    (tmp_path / "queue").write_text("ACTIVE\n")
    _, events = keep(tmp_path, cloud, "running", "finished")
    assert events == ["fetch", "delete"]


def test_a_pod_needs_a_shared_file_system(tmp_path, cloud):
    refused = launch("tpu.sh", "launch", **(cloud | {"STORAGE": "gs://some-bucket"}))
    assert refused.returncode == 1
    assert "has several hosts" in refused.stderr
    assert not (tmp_path / "events").exists()


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


def test_a_restore_that_was_cut_off_is_done_again(tmp_path, settings):
    install(tmp_path / "tools", "gcloud", BUCKET)
    home = tmp_path / "machine"
    home.mkdir()
    (home / "end").write_text("0")
    there = settings | {"STORAGE": "gs://some-bucket", "COPY_SECONDS": "0.1", "HOME": str(home)}
    kept = tmp_path / "some-bucket" / "aspirin" / "checkpoints" / "5" / "state"
    kept.parent.mkdir(parents=True)
    kept.touch()
    run = home / "runs" / "aspirin"

    def start():
        return launch("tpu_worker.sh", "start", **there).returncode

    def has_ended():
        return launch("tpu_worker.sh", "status", **there).stdout == "finished\n"

    for _ in ("a new machine", "a machine from which the run was removed"):
        (home / "cut").touch()
        assert start() == 1
        assert (run / "checkpoints" / "5").is_dir()
        (home / "cut").unlink()
        assert start() == 0
        wait_until(has_ended)
        assert (run / "checkpoints" / "5" / "state").exists()
        assert kept.exists()
        (home / "cut").touch()
        assert start() == 0, "what this machine has itself is newer"
        wait_until(has_ended)
        shutil.rmtree(run)


def test_slurm_keeps_compiled_programs_beside_the_run(tmp_path, cluster):
    (tmp_path / "end").write_text("0")
    cluster |= {"JAX_COMPILATION_CACHE_DIR": ""}
    assert f"programs {tmp_path}/jax_cache" in launch("slurm.sbatch", **cluster).stdout
    cluster |= {"JAX_COMPILATION_CACHE_DIR": "/elsewhere"}
    assert "programs /elsewhere" in launch("slurm.sbatch", **cluster).stdout

"""Runs the launch scripts, with stand-ins for the tools that they call."""

from __future__ import annotations

import os
import pathlib
import subprocess
import time

from tests.paths import REPOSITORY

LAUNCH = REPOSITORY / "experiments" / "launch"
SETTINGS = {
    "PROJECT": "some-project",
    "ZONE": "some-zone",
    "TPU_NAME": "my-tpu",
    "ACCELERATOR_TYPE": "v5litepod-8",
    "RUNTIME_VERSION": "v2-alpha-tpuv5-lite",
    "STORAGE": "nfs:10.0.0.2:/share",
    "RUN_NAME": "aspirin",
    "CONFIG": "experiments/configs/md17.py:aspirin",
    "WORKDIR": "runs/aspirin",
}

# Trains until a file says how to end, or until it is asked to end: then it "saves", and ends with
# the same status as the program (EX_TEMPFAIL).
TRAINING = """\
case "$*" in *--dry_run*) exit 0 ;; esac
trap 'echo saved; exit 75' TERM
echo "training, devices ${JAX_LOCAL_DEVICE_IDS:-all}"
echo "programs ${JAX_COMPILATION_CACHE_DIR:-not kept}"
until [[ -s $HOME/end ]]; do sleep 0.05; done
exit "$(<"$HOME/end")"
"""

# Google Cloud with one TPU, whose state is in `queue`; what is done with it is added to `events`.
# `states` has what the training says at each look; `broken`, what fails once, and the state then.
GCLOUD = r"""
case "$*" in
  *"queued-resources describe"*)
    if [[ -s $HOME/queue ]]; then cat "$HOME/queue"; else echo "NOT_FOUND" >&2; exit 1; fi
    exit ;;
  *"value(networkEndpoints"*) cat "$HOME/addresses"; exit ;;
  *"tpu-vm describe"*) echo READY; exit ;;
esac
case "$*" in
  *"queued-resources create"*) event=create ;;
  *"queued-resources delete"*) event=delete ;;
  *"tpu-vm scp"*aspirin*) event=fetch ;;
  *"tpu-vm scp"*) event=copy ;;
  *setup.sh*) event=setup ;;
  *tpu_worker.sh\ start*) event=start ;;
  *tpu_worker.sh\ stop*) event=stop ;;
  *tpu_worker.sh\ status*)
    state=$(head -n 1 "$HOME/states")
    sed -i 1d "$HOME/states"
    if [[ $state == preempted ]]; then echo SUSPENDED >"$HOME/queue"; exit 255; fi
    if [[ $state == unreachable ]]; then exit 255; fi
    echo "$state"
    exit ;;
esac
echo "$event" >>"$HOME/events"
read -r broken state <"$HOME/broken" || true
if [[ $event == "$broken" ]]; then
  sed -i 1d "$HOME/broken"
  printf %s "$state" >"$HOME/queue"
  exit 1
fi
case $event in
  create) echo ACTIVE >"$HOME/queue" ;;
  delete) rm -f "$HOME/queue" ;;
esac
"""

# Google Cloud with a bucket, a folder beside HOME. As long as there is a file `cut`, a restore is
# cut off: folders arrive without what is in them.
BUCKET = r"""
command=$2
shift 2
places=() deletes=
for word in "$@"; do
  case $word in
    gs://*) places+=("$HOME/../${word#gs://}") ;;
    --delete-*) deletes=1 ;;
    --*) ;;
    *) places+=("$word") ;;
  esac
done
if [[ $command == rsync && ${places[1]} == "$HOME/runs/"* && -e $HOME/cut ]]; then
  mkdir -p "${places[1]}/checkpoints/5"
  exit 1
fi
if [[ -n $deletes ]]; then rm -rf "${places[1]}"; fi
mkdir -p "$(dirname "${places[1]}")"
cp -R "${places[0]}$([[ -d ${places[0]} ]] && echo /. || true)" "${places[1]}"
"""

# git with one commit, the folder `commit`.
GIT = """
for word in "$@"; do
  case $word in --output=*) tar -czf "${word#--output=}" -C "$HOME/commit" . ;; esac
done
"""

# Google Cloud with one host, whose home is the folder `host`.
HOST = """
case "$*" in
  *"tpu-vm scp"*) cp "$5" "$HOME/host" ;;
  *) for word in "$@"; do
       case $word in --command=*) (cd "$HOME/host" && bash -c "${word#--command=}") ;; esac
     done ;;
esac
"""


def environment(**settings: str) -> dict[str, str]:
    """The environment without settings of whoever runs the tests, with these."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return kept | settings


def launch(script: str, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """Runs a launch script with these environment variables."""
    return subprocess.run(
        ["bash", str(LAUNCH / script), *arguments],
        env=environment(**settings),
        capture_output=True,
        text=True,
        timeout=60,
    )


def install(folder: pathlib.Path, name: str, text: str) -> pathlib.Path:
    """Writes a stand-in, a bash script, into a folder for the PATH."""
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f"#!/usr/bin/env bash\nset -euo pipefail\n{text}")
    path.chmod(0o755)
    return path


def with_tools(folder: pathlib.Path) -> str:
    """A PATH on which the stand-ins of a folder come first."""
    return f"{folder}{os.pathsep}{os.environ['PATH']}"


def wait_until(condition) -> None:
    """Waits, ten seconds at most, until something is so."""
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)

#!/usr/bin/env bash
# What `tpu.sh` runs on the hosts of a TPU; each host has a copy of this repository.
#
#   tpu_worker.sh start [flags of experiments.train] | status | watch | stop | tensorboard
#
# Variables: CONFIG (for start), RUN_NAME, STORAGE:
#   nfs:SERVER:/SHARE          mounted on all hosts; the one that fits a pod
#   disk:SOURCE                a disk that is attached to the one host; mounted
#   gs://BUCKET[/FOLDER]       the workdir is local, and copied there every COPY_SECONDS (300)
# DISK_DEVICE, the attached disk (default /dev/disk/by-id/google-persistent-disk-1).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
# shellcheck source-path=SCRIPTDIR source=common.sh
source experiments/launch/common.sh

start() {
  require CONFIG
  case $STORAGE in
    nfs:*) mount_nfs ;;
    disk:*) mount_disk ;;
    gs://*) restore ;;
  esac
  run mkdir -p "$WORKDIR"
  supervisor start --distributed "$@"
  if [[ $STORAGE == gs://* ]]; then copy_in_background; fi
}

supervisor() {
  bash experiments/launch/workstation.sh "$@"
}

mount_nfs() {
  if dry || ! command -v mount.nfs >/dev/null; then
    run sudo apt-get -o DPkg::Lock::Timeout=300 update --quiet
    run sudo apt-get -o DPkg::Lock::Timeout=300 install --quiet --yes nfs-common
  fi
  mount_once -t nfs "${STORAGE#nfs:}"
}

mount_disk() {
  mount_once -o discard,defaults "${DISK_DEVICE:-/dev/disk/by-id/google-persistent-disk-1}"
}

# Mounts where runs are kept, and gives this user a folder there: mount_once OPTIONS... WHAT
mount_once() {
  if dry || ! mountpoint -q "$root"; then
    run sudo mkdir -p "$root"
    run sudo mount "$@" "$root"
  fi
  run sudo mkdir -p "$WORKDIR" "$root/data" "$root/jax_cache"
  run sudo chown "$(id -u):$(id -g)" "$WORKDIR" "$root/data" "$root/jax_cache"
}

# Fetches what an earlier machine has left, once: afterwards, what this machine has is newer. That
# all has arrived is marked outside of the workdir: a part looks like a run as well, and what is
# missing would be removed from the bucket. The time is written there first: that fails, and nothing
# is started, if the bucket cannot be reached, and a first run finds a folder.
restore() {
  if [[ -e $restored && -d $WORKDIR ]]; then return; fi
  run rm -f "$restored"
  run mkdir -p "$WORKDIR/launch"
  if dry; then
    printf 'date >%s\n' "$WORKDIR/launch/last_start"
  else
    date >"$WORKDIR/launch/last_start"
  fi
  run gcloud storage cp "$WORKDIR/launch/last_start" "$bucket/launch/last_start"
  run gcloud storage rsync --recursive "$bucket" "$WORKDIR"
  run touch "$restored"
}

# Old checkpoints leave the bucket only after newer ones have arrived whole: the first pass adds,
# the second removes as well. Whatever is cut off in between is found by its checksum when a run
# resumes, which then takes the checkpoint before.
copy() {
  local to_bucket=(gcloud storage rsync --recursive
    --exclude='.*orbax-checkpoint-tmp.*' "$WORKDIR" "$bucket")
  run "${to_bucket[@]}" && run "${to_bucket[@]}" --delete-unmatched-destination-objects
}

copy_in_background() {
  if dry; then
    copy
    return
  fi
  mkdir -p "$copies"
  rm -f "$copies/done"
  nohup bash experiments/launch/tpu_worker.sh copy >>"$copies/log" 2>&1 </dev/null &
  printf '%s\n' "$!" >"$copies/pid"
}

copier_runs() {
  [[ -s $copies/pid ]] &&
    [[ $(ps -o args= -p "$(<"$copies/pid")" 2>/dev/null) == *"tpu_worker.sh copy"* ]]
}

# Copies while the training runs, and once more when it has ended, until that succeeds.
copy_until_the_end() {
  local pause=${COPY_SECONDS:-300} ending=
  trap 'ending=1 pause=1' TERM # the machine shuts down: the last copy must not wait
  while [[ $(supervisor status) == running ]]; do
    sleep "$pause" &
    wait $! || true
    if [[ -z $ending ]]; then copy || say "not copied, once more in $pause s"; fi
  done
  until copy; do sleep "$pause"; done
  touch "$copies/done"
}

# A run in a bucket has not ended before it has arrived there.
status() {
  local state
  state=$(supervisor status)
  if [[ $STORAGE == gs://* && $state != running && $state != none && ! -e $copies/done ]]; then
    if copier_runs; then state=running; else state=gone; fi
  fi
  printf '%s\n' "$state"
}

stop() {
  supervisor stop
  while copier_runs; do sleep 1; done
}

# In an environment of its own: what TensorBoard needs may not fit the training.
tensorboard() {
  local venv=$HOME/.tensorboard
  if dry || [[ ! -x $venv/bin/tensorboard ]]; then
    run .venv/bin/python -m venv "$venv"
    run "$venv/bin/pip" install --quiet tensorboard 'setuptools<81'
  fi
  run "$venv/bin/tensorboard" --logdir="$WORKDIR/tensorboard" --port=6006
}

require RUN_NAME STORAGE
case $STORAGE in
  nfs:*:/* | disk:?*) root=/mnt/runs ;;
  gs://?*) root=$HOME/runs ;;
  *) fail "STORAGE=$STORAGE; expected nfs:SERVER:/SHARE, disk:SOURCE or gs://BUCKET" ;;
esac
host=$(hostname)
export WORKDIR=$root/$RUN_NAME LAUNCH_LABEL=worker-${host##*-w-}
export EQUIFORMER_DATA=${EQUIFORMER_DATA:-$root/data}
export JAX_COMPILATION_CACHE_DIR=${JAX_COMPILATION_CACHE_DIR:-$root/jax_cache}
bucket=${STORAGE%/}/$RUN_NAME
restored=$WORKDIR.restored
copies=$HOME/.equiformer_copies
command=${1:-}
if (($#)); then shift; fi
case $command in
  start) start "$@" ;;
  status) status ;;
  watch) supervisor watch ;;
  stop) stop ;;
  copy) copy_until_the_end ;;
  tensorboard) tensorboard ;;
  *) fail "usage: tpu_worker.sh start|status|watch|stop|tensorboard" ;;
esac

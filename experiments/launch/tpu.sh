#!/usr/bin/env bash
# Trains on a TPU VM or a pod of Google Cloud; run on your own machine, from anywhere.
#
#   tpu.sh check [FLAGS]     the configuration and the flags of experiments.train, without a TPU
#   tpu.sh create            asks for the TPU, waits until it is there
#   tpu.sh install           copies the last commit of this repository to all hosts, sets it up
#   tpu.sh launch [FLAGS]    starts the training on all hosts, or goes on with it
#   tpu.sh status | watch | tensorboard     of the first host; tensorboard on http://localhost:6006
#   tpu.sh stop              asks the program on all hosts to save and end
#   tpu.sh fetch FOLDER      copies the run to this machine, while it is trained or afterwards
#   tpu.sh delete            gives the TPU back
#   tpu.sh state             of the TPU, as tpu_keep.sh wants to know it
#
# Variables: PROJECT, ZONE, TPU_NAME, ACCELERATOR_TYPE, RUNTIME_VERSION; CONFIG, RUN_NAME; STORAGE
# (see tpu_worker.sh); SPOT=1 for a TPU that may be taken away; CREATE_FLAGS, more flags of `gcloud
# compute tpus queued-resources create`, separated by spaces; DRY_RUN=1 prints the commands, also
# those of the hosts. docs/launch.md has examples.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
# shellcheck source-path=SCRIPTDIR source=common.sh
source experiments/launch/common.sh

WAIT_SECONDS=${WAIT_SECONDS:-30}
FINAL_STATES="ACTIVE FAILED SUSPENDED MISSING"

tpus() {
  run gcloud compute tpus "$@" --project="$PROJECT" --zone="$ZONE"
}

create() {
  require ACCELERATOR_TYPE RUNTIME_VERSION STORAGE
  local flags=() more=()
  if [[ ${SPOT:-0} == 1 ]]; then flags+=(--spot); fi
  if [[ $STORAGE == disk:* ]]; then
    flags+=(--data-disk="source=${STORAGE#disk:},mode=read-write")
  fi
  read -ra more <<<"${CREATE_FLAGS:-}"
  tpus queued-resources create "$TPU_NAME" --node-id="$TPU_NAME" \
    --accelerator-type="$ACCELERATOR_TYPE" --runtime-version="$RUNTIME_VERSION" \
    ${flags[@]+"${flags[@]}"} ${more[@]+"${more[@]}"}
  if dry; then
    queue_state
    return
  fi
  local now=""
  until [[ -n $now && " $FINAL_STATES " == *" $now "* ]]; do
    now=$(queue_state)
    say "$TPU_NAME: $now"
    sleep "$WAIT_SECONDS" # also at the end: hosts that are there do not answer at once
  done
  if [[ $now != ACTIVE ]]; then fail "$TPU_NAME is $now; \`tpu.sh delete\` removes the request"; fi
}

# What `describe` says; MISSING where there is no such thing, UNKNOWN where nobody answers.
described() {
  local answer errors
  if dry; then
    tpus "$@"
    return
  fi
  errors=$(mktemp)
  if answer=$(tpus "$@" 2>"$errors"); then
    printf '%s\n' "${answer:-UNKNOWN}"
  elif grep -qiE 'NOT_FOUND|not found' "$errors"; then
    printf 'MISSING\n'
  else
    cat "$errors" >&2
    printf 'UNKNOWN\n'
  fi
  rm -f "$errors"
}

queue_state() {
  described queued-resources describe "$TPU_NAME" --format='value(state.state)'
}

# The state of the request; SUSPENDED, too, while it still counts as active but the TPU is gone.
state() {
  local request node
  request=$(queue_state)
  if dry || [[ $request == ACTIVE ]]; then
    node=$(described tpu-vm describe "$TPU_NAME" --format='value(state)')
    case $node in
      PREEMPTED | TERMINATED | STOPPED | MISSING) request=SUSPENDED ;;
    esac
  fi
  printf '%s\n' "$request"
  if dry; then printf '%s\n' "$node"; fi
}

# Replaces the copy on the hosts, all but its environment: what a commit has removed must not be
# left there to be imported.
install() {
  local folder archive
  folder=$(mktemp -d)
  archive=$folder/equiformer_jax.tar.gz
  # shellcheck disable=SC2064 # the folder of now
  trap "rm -rf '$folder'" EXIT
  run git archive --format=tar.gz --output="$archive" HEAD
  tpus tpu-vm scp "$archive" "$TPU_NAME:" --worker=all
  on_workers all "mkdir -p equiformer_jax \
&& find equiformer_jax -mindepth 1 -maxdepth 1 ! -name .venv -exec rm -rf {} + \
&& tar -xzf equiformer_jax.tar.gz -C equiformer_jax \
&& bash equiformer_jax/experiments/launch/setup.sh tpu"
  if dry; then bash experiments/launch/setup.sh tpu; fi
}

# on_workers WHICH COMMAND [gcloud flags]
on_workers() {
  tpus tpu-vm ssh "$TPU_NAME" --worker="$1" --command="$2" "${@:3}"
}

# Runs tpu_worker.sh on hosts: worker_script WHICH COMMAND...
worker_script() {
  local which=$1
  shift
  local settings=(RUN_NAME="$RUN_NAME" STORAGE="$STORAGE" CONFIG="${CONFIG:-}") name
  for name in DISK_DEVICE COPY_SECONDS; do
    if [[ -n ${!name:-} ]]; then settings+=("$name=${!name}"); fi
  done
  local remote
  remote=$(quoted env "${settings[@]}" bash equiformer_jax/experiments/launch/tpu_worker.sh "$@")
  case $1 in # a host on which nothing is installed yet has no training either
    status | stop) remote="test -d equiformer_jax/.venv || { echo none; exit; }; $remote" ;;
  esac
  on_workers "$which" "$remote" ${ssh_flags[@]+"${ssh_flags[@]}"}
  if dry; then
    printf '# there:\n'
    env "${settings[@]}" bash experiments/launch/tpu_worker.sh "$@"
  fi
}

launch() {
  require CONFIG
  local addresses
  addresses=$(tpus tpu-vm describe "$TPU_NAME" --format='value(networkEndpoints[].ipAddress)')
  if dry; then printf '%s\n' "$addresses"; fi
  # gcloud separates the entries of a list by semicolons.
  if [[ $addresses == *\;* && $STORAGE != nfs:* ]] && ! dry; then
    fail "$TPU_NAME has several hosts, which write their checkpoints together: they need one file \
system, STORAGE=nfs:SERVER:/SHARE"
  fi
  worker_script all start "$@"
}

fetch() {
  if [[ -z ${1:-} ]]; then fail "usage: tpu.sh fetch FOLDER"; fi
  run mkdir -p "$1/$RUN_NAME"
  if [[ $STORAGE == gs://* ]]; then
    run gcloud storage rsync --recursive "${STORAGE%/}/$RUN_NAME" "$1/$RUN_NAME"
  else
    tpus tpu-vm scp --recurse --worker=0 "$TPU_NAME:/mnt/runs/$RUN_NAME" "$1"
  fi
}

require PROJECT ZONE TPU_NAME
ssh_flags=()
command=${1:-}
if (($#)); then shift; fi
case $command in
  install | launch | status | watch | tensorboard | stop | fetch) require RUN_NAME STORAGE ;;
esac
case $command in
  check)
    require CONFIG RUN_NAME
    run "${PYTHON:-.venv/bin/python}" -m experiments.train --config="$CONFIG" \
      --workdir="runs/$RUN_NAME" "$@" --dry_run
    ;;
  create) create ;;
  state) state ;;
  install) install ;;
  launch) launch "$@" ;;
  status | watch) worker_script 0 "$command" ;;
  tensorboard)
    ssh_flags=(--ssh-flag="-L 6006:localhost:6006")
    worker_script 0 tensorboard
    ;;
  stop) worker_script all stop ;;
  fetch) fetch "$@" ;;
  delete) tpus queued-resources delete "$TPU_NAME" --force --quiet ;;
  *) fail "usage: tpu.sh check|create|install|launch|status|watch|tensorboard|stop|fetch|delete" ;;
esac

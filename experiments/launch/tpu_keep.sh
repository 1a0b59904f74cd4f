#!/usr/bin/env bash
# Keeps a training on a spot TPU going until it is finished: asks for the TPU, installs, launches;
# does it again, with the same workdir, whenever the TPU has been taken away; fetches the results in
# the end and gives the TPU back.
#
#   experiments/launch/tpu_keep.sh FOLDER [flags of experiments.train]
#
# Let it run where it can stay, under nohup or tmux. It can be ended and started again at any time:
# it goes on with what it finds.
#
# Variables: those of tpu.sh; WAIT_SECONDS (60) between two looks; MAX_FAILURES (3), how often the
# program may fail on one TPU before a person should look; MAX_UNREACHABLE (10), for how many looks
# in a row the first host of a TPU may not answer before the TPU is replaced.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
# shellcheck source-path=SCRIPTDIR source=common.sh
source experiments/launch/common.sh

# Every phase is a process of its own, so that an error ends the phase and not this loop.
tpu() {
  bash experiments/launch/tpu.sh "$@"
}

obtain() {
  failures=0 unreachable=0
  tpu create && tpu install && tpu launch "$@"
}

replace() {
  tpu delete && obtain "$@"
}

relaunch() {
  tpu stop || say "not every host could be asked to end"
  tpu install && tpu launch "$@"
}

# One look at the training, on a TPU that is there.
look() {
  local run_state
  run_state=$(tpu status) || run_state=unreachable
  run_state=${run_state##*$'\n'}
  say "training: $run_state"
  if [[ $run_state == unreachable ]]; then
    unreachable=$((unreachable + 1))
  else
    unreachable=0
  fi
  case $run_state in
    finished) tpu fetch "$results" && done=1 ;;
    running) ;;
    unreachable) if ((unreachable >= MAX_UNREACHABLE)); then replace "$@"; fi ;;
    failed*)
      failures=$((failures + 1))
      if ((failures > MAX_FAILURES)); then
        fail "the program has failed $failures times: see \`tpu.sh watch\`; the TPU still runs"
      fi
      relaunch "$@"
      ;;
    *) relaunch "$@" ;;
  esac
}

if [[ -z ${1:-} || $1 == -* ]]; then fail "usage: tpu_keep.sh FOLDER [flags]"; fi
require PROJECT ZONE TPU_NAME ACCELERATOR_TYPE RUNTIME_VERSION CONFIG RUN_NAME STORAGE
results=$1
shift
MAX_FAILURES=${MAX_FAILURES:-3} MAX_UNREACHABLE=${MAX_UNREACHABLE:-10}
failures=0 unreachable=0 done=
tpu check "$@"
if dry; then
  printf '# until it is finished:\n'
  tpu state
  obtain "$@"
  tpu status
  printf '# when the TPU has been taken away, and then as before:\n'
  tpu delete
  printf '# when it is finished:\n'
  tpu fetch "$results"
else
  until [[ -n $done ]]; do
    tpu_state=$(tpu state)
    say "TPU: $tpu_state"
    case $tpu_state in
      ACTIVE) look "$@" || say "once more in ${WAIT_SECONDS:-60} s" ;;
      MISSING) obtain "$@" || say "once more in ${WAIT_SECONDS:-60} s" ;;
      FAILED | SUSPENDED) replace "$@" || say "once more in ${WAIT_SECONDS:-60} s" ;;
    esac
    if [[ -z $done ]]; then sleep "${WAIT_SECONDS:-60}"; fi
  done
fi
until tpu delete || [[ $(tpu state) == MISSING ]]; do
  say "not deleted, once more in ${WAIT_SECONDS:-60} s"
  sleep "${WAIT_SECONDS:-60}"
done

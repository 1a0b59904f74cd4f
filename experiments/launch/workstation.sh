#!/usr/bin/env bash
# Trains on this machine in the background, on all its accelerators, or on its CPU cores.
#
#   CONFIG=experiments/configs/md17.py:aspirin WORKDIR=runs/aspirin \
#       experiments/launch/workstation.sh start [flags of experiments.train]
#   WORKDIR=runs/aspirin experiments/launch/workstation.sh status|watch|stop
#
# `start` also goes on with a run that was stopped. `stop` asks the program to save and end, and
# waits for it; asked a second time meanwhile, it ends without saving. `status` prints one of:
# running; finished; stopped (asked to end); failed STATUS, also if it was asked to end but could
# not save; gone (killed, or the machine went down); none.
#
# Paths are relative to the root of the repository.
#
# Variables: CONFIG, WORKDIR; PYTHON (default .venv/bin/python); LAUNCH_LABEL, name of this machine
# in WORKDIR/launch (default its host name); DRY_RUN=1 prints the commands.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
# shellcheck source-path=SCRIPTDIR source=common.sh
source experiments/launch/common.sh

start() {
  require CONFIG
  if ! dry && supervisor_runs; then fail "$WORKDIR is being trained already"; fi
  # A mistyped flag is better seen here than in the log.
  run "${train[@]}" "$@" --dry_run
  if dry; then
    printf 'nohup %s >>%s 2>&1 &\n' "$(quoted "${train[@]}" "$@")" "$(quoted "$launch/log")"
    return
  fi
  mkdir -p "$launch"
  rm -f "$launch/state"
  nohup bash experiments/launch/workstation.sh supervise "$@" >>"$launch/log" 2>&1 </dev/null &
  printf '%s\n' "$!" >"$launch/pid"
  say "started; the log is $launch/log"
}

# What `start` leaves behind in the background: keeps how the training ended.
supervise() {
  local status=0 asked=
  # A machine that shuts down signals the training as well, and a second signal from here would end
  # it without saving. `stop` signals this shell alone.
  trap 'signaled=1 asked=1' TERM
  trap 'signaled=1 asked=1; kill -TERM "$child" 2>/dev/null || true' USR1
  "${train[@]}" "$@" &
  child=$!
  wait_for "$child"
  if ((status == 0)); then
    printf 'finished\n'
  # 75: saved, and ended because this process or that of another host was asked to. 128 + SIGTERM:
  # asked twice, or before the program listens.
  elif ((status == 75)) || { ((status == 143)) && [[ -n $asked ]]; }; then
    printf 'stopped\n'
  else
    printf 'failed %s\n' "$status"
  fi >"$launch/state.tmp"
  mv "$launch/state.tmp" "$launch/state"
}

# Whether the process that `start` has left is there: after a reboot the number may be another's.
supervisor_runs() {
  [[ -s $launch/pid ]] &&
    [[ $(ps -o args= -p "$(<"$launch/pid")" 2>/dev/null) == *"workstation.sh supervise"* ]]
}

state() {
  if supervisor_runs; then
    printf 'running\n'
  elif [[ -s $launch/state ]]; then
    cat "$launch/state"
  elif [[ -s $launch/pid ]]; then
    printf 'gone\n'
  else
    printf 'none\n'
  fi
}

stop() {
  if dry; then
    run kill -USR1 PID
    return
  fi
  if ! supervisor_runs; then
    say "nothing is running in $WORKDIR"
    return
  fi
  kill -USR1 "$(<"$launch/pid")"
  say "asked to save and end"
  while supervisor_runs; do sleep 1; done
  state
}

check_workdir
launch=$WORKDIR/launch/${LAUNCH_LABEL:-$(hostname)}
train=("${PYTHON:-.venv/bin/python}" -m experiments.train
  --config="${CONFIG:-}" --workdir="$WORKDIR")
command=${1:-}
if (($#)); then shift; fi
case $command in
  start) start "$@" ;;
  supervise) supervise "$@" ;;
  status) if dry; then run cat "$launch/state"; else state; fi ;;
  watch) run tail -n 50 -F "$launch/log" ;;
  stop) stop ;;
  *) fail "usage: workstation.sh start|status|watch|stop" ;;
esac

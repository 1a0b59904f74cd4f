# shellcheck shell=bash
# What the launch scripts share; sourced, not run.

fail() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}

say() {
  printf '%s\n' "$*" >&2
}

# DRY_RUN=1 prints every command in place of running it.
dry() {
  [[ ${DRY_RUN:-0} == 1 ]]
}

# Makes sure that variables are set, before anything is started: require NAME...
require() {
  local name missing=()
  for name in "$@"; do
    if [[ -z ${!name:-} ]]; then missing+=("$name"); fi
  done
  if ((${#missing[@]})); then fail "set ${missing[*]} (docs/launch.md says to what)"; fi
}

# The program writes with the means of a file system; it would take a URL for a name of folders.
check_workdir() {
  require WORKDIR
  if [[ $WORKDIR == *://* ]]; then
    fail "WORKDIR=$WORKDIR; expected a folder: buckets are no file systems (docs/launch.md)"
  fi
}

# The arguments as one line that a shell reads as the same arguments.
quoted() {
  local word line="" quote="'" escaped="'\\''"
  for word in "$@"; do
    if [[ $word =~ ^[[:alnum:]_./:=,@%+-]+$ ]]; then
      line+=" $word"
    else
      line+=" '${word//$quote/$escaped}'"
    fi
  done
  printf '%s\n' "${line# }"
}

# Runs a command, or prints it.
run() {
  if dry; then quoted "$@"; else "$@"; fi
}

# Waits for a child and sets `status` to how it ended. A signal to this shell interrupts `wait`:
# whoever traps it sets `signaled`, and the wait goes on.
# shellcheck disable=SC2034 # the caller reads it
wait_for() {
  while :; do
    signaled=
    status=0
    wait "$1" || status=$?
    [[ -n $signaled ]] || return 0
  done
}

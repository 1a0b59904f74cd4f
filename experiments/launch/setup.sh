#!/usr/bin/env bash
# Makes .venv in this repository with everything that was tested, and JAX for the accelerator.
#
#   experiments/launch/setup.sh tpu|cuda|cpu
#
# Variables: PYTHON, an interpreter of version 3.11.4 or later; found if not given. Where there is
# none, as on the images of TPU VMs, `uv` is installed for this user and fetches one. 3.11 comes
# first: its versions of JAX are those that docs/tpu.md was compiled with.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
# shellcheck source-path=SCRIPTDIR source=common.sh
source experiments/launch/common.sh

new_enough() {
  "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11, 4))' 2>/dev/null
}

find_python() {
  local candidate
  for candidate in ${PYTHON:+"$PYTHON"} python3.11 python3.12 python3.13 python3; do
    if new_enough "$candidate"; then
      printf '%s\n' "$candidate"
      return
    fi
  done
}

make_environment() {
  local python
  python=$(find_python)
  if [[ -n ${PYTHON:-} && $python != "$PYTHON" ]]; then
    fail "PYTHON=$PYTHON is no Python of version 3.11.4 or later"
  fi
  if [[ -n $python ]]; then
    run "$python" -m venv .venv
  else
    run python3 -m pip install --user --quiet uv
    run python3 -m uv venv --seed --python=3.11 .venv
  fi
}

case ${1:-} in
  tpu | cuda) package=".[$1]" ;;
  cpu) package="." ;;
  *) fail "usage: setup.sh tpu|cuda|cpu" ;;
esac
if dry || ! new_enough .venv/bin/python; then make_environment; fi
run .venv/bin/python -m pip install --disable-pip-version-check --quiet \
  -r requirements.txt -e "$package"
# No device is touched: on a pod, all hosts would have to do so at the same time.
run .venv/bin/python -c 'import equiformer_jax'
dry || say "installed in $PWD/.venv"

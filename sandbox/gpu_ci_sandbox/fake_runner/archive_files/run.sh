#!/bin/bash
# Starts the listener again when it asks for it, and exits 0 for nearly every way in which it ends.
root=$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")" && pwd)

deprecated=7
again=2

# Runs the helper so that a signal to this script reaches the listener as an interrupt.
run_trapped() {
  set -m
  "$root/run-helper.sh" "$@" &
  helper=$!
  trap 'kill -INT -- "-$helper"' INT TERM
  wait "$helper"
  code=$?
  trap - INT TERM
  # The first wait ends with the trap; this one has the helper's own code.
  if kill -0 "$helper" 2>/dev/null; then
    wait "$helper"
    code=$?
  fi
  exit "$code"
}

run_plain() {
  while :; do
    "$root/run-helper.sh" "$@"
    code=$?
    if [[ $code -eq $again ]]; then
      sleep 5
      echo "Restarting runner..."
    elif [[ $code -eq $deprecated && ${ACTIONS_RUNNER_RETURN_VERSION_DEPRECATED_EXIT_CODE:-} == 1 ]]; then
      exit "$code"
    else
      echo "Exiting runner..."
      exit 0
    fi
  done
}

if [[ -n ${RUNNER_MANUALLY_TRAP_SIG:-} ]]; then
  run_trapped "$@"
else
  run_plain "$@"
fi

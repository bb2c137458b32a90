#!/bin/bash
# Refuses root, runs the listener, and says what its exit code means.
root=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

if [[ $(id -u) -eq 0 && -z ${RUNNER_ALLOW_RUNASROOT:-} ]]; then
  echo "Must not run interactively with sudo"
  exit 1
fi

"$root/bin/Runner.Listener" run "$@"
code=$?
case $code in
  0) echo "Runner listener exit with 0 return code, stop the service, no retry needed." ;;
  1) echo "Runner listener exit with terminated error, stop the service, no retry needed." ;;
  2) echo "Runner listener exit with retryable error, re-launch runner in 5 seconds." ;;
  5) echo "Runner listener exit with Session Conflict error, stop the service, no retry needed." ;;
  7)
    echo "Runner listener exit with deprecated version error code: $code."
    exit "$code"
    ;;
  *)
    echo "Exiting with unknown error code: $code"
    exit 0
    ;;
esac
exit "$code"

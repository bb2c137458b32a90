#!/bin/bash
# Registers this folder with a registration token, or removes its registration.
root=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

if [[ $(id -u) -eq 0 && -z ${RUNNER_ALLOW_RUNASROOT:-} ]]; then
  echo "Must not run with sudo"
  exit 1
fi

if [[ ${1:-} == remove ]]; then
  exec "$root/bin/Runner.Listener" "$@"
fi
exec "$root/bin/Runner.Listener" configure "$@"

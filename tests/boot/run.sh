#!/bin/sh
# A runner for the tests of boot.sh. FAKE_RUNNER says what it does; what it was given is written down.
here=$(dirname "$0")
env -0 >"$here/given.env"
grep -E '^(SigIgn|Uid|Umask):' /proc/self/status >"$here/given.status"
echo "$@" >"$here/given.arguments"
echo "$ACTIONS_RUNNER_INPUT_JITCONFIG" >"$here/.runner"
unset ACTIONS_RUNNER_INPUT_JITCONFIG

for word in ${FAKE_RUNNER:-listen hang}; do
    case $word in
        listen) echo "2026-09-01 10:00:00Z: Listening for Jobs" ;;
        diag) mkdir -p "$here/_diag" && echo "[INFO] Listening for Jobs" >"$here/_diag/Runner_1.log" ;;
        job) echo "2026-09-01 10:00:01Z: Running job: build" ;;
        done) echo "2026-09-01 10:00:09Z: Job build completed with result: Succeeded" ;;
        worker) "$here/bin/Runner.Worker" spawnclient 3 & ;;
        finished) while ! [ -e "$here/finish" ]; do sleep 0.1; done ;;
        hang) sleep 600 ;;
        escape) setsid sleep 600 & ;;
        old) echo "An error occurred: Runner version v2.300.0 is deprecated and cannot receive messages." ;;
        root) echo "Must not run interactively with sudo" ;;
        icu) echo "Process terminated. Couldn't find a valid ICU package installed on the system." ;;
        deaf) trap '' TERM ;;
        gone) echo "The runner no longer exists on the server." ;;
    esac
done
echo "Runner listener exit with 0 return code, stop the service, no retry needed."
echo "Exiting runner..."
exit 0

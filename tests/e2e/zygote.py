"""Forks a process for each story that it is told to run, with everything imported once.

A start imports for a second; a matrix of kills would import for minutes. What is forked has its own
session, environment and log, and is signalled by the test itself.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import boto3

from gpu_ci import cli
from gpu_ci.kept import bring_up, lock, put_away
from gpu_ci.providers.jarvislabs import create_and_resume, pause_and_destroy
from gpu_ci.start import start, until_online
from gpu_ci.stop import stop
from gpu_ci.watchdog import in_run, leftovers, stuck_runs, waits, watchdog

STORIES = {"start": start, "stop": stop, "watchdog": watchdog}


def main() -> None:
    boto3.session.Session()
    # The stand-ins' requests land within milliseconds, and their machines change within a second.
    vars(put_away).update(LANDING_SECONDS=0.5)
    for waiting in (bring_up, put_away, lock, until_online):
        vars(waiting).update(LOOK_SECONDS=0.2)
    vars(pause_and_destroy).update(SHOWS_WITHIN=0.5, LOOK_SECONDS=0.1)
    vars(create_and_resume).update(RESUME_LANDS_WITHIN=1.0, LOOK_SECONDS=0.3)
    vars(leftovers).update(APART_SECONDS=0.1, PACE_SECONDS=0.0)
    vars(stuck_runs).update(GRACE_SECONDS=0.1, FORCE_SECONDS=0.1, PACE_SECONDS=0.0)
    vars(in_run).update(LOOK_SECONDS=0.1)
    vars(waits).update(EARLIER_SECONDS=0.3)
    for line in sys.stdin:
        order = json.loads(line)
        answer = _wait(order["wait"]) if "wait" in order else _fork(order)
        print(json.dumps(answer), flush=True)


def _fork(order: dict[str, Any]) -> dict[str, int]:
    pid = os.fork()
    if pid == 0:
        _tell(order["story"], order["env"], Path(order["log"]))
    return {"pid": pid}


def _wait(pid: int) -> dict[str, int]:
    _, status = os.waitpid(pid, 0)
    return {"exit": os.waitstatus_to_exitcode(status)}


def _tell(story: str, env: dict[str, str], log: Path) -> None:
    os.setsid()
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.environ.clear()
    os.environ.update(env)
    code = 1
    try:
        code = cli.run(STORIES[story], env)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


main()

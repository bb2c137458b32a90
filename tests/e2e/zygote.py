"""Forks a process for each story that it is told to run, with everything imported once.

A start imports for a second; a matrix of kills would import for minutes. What is forked has its own
session, environment and log, and is signalled by the test itself, which also drives its clock.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import boto3

from gpu_ci import cli
from gpu_ci.github import transport
from gpu_ci.kept import bring_up, lock, put_away
from gpu_ci.providers import http
from gpu_ci.providers.ec2 import clients, instances
from gpu_ci.providers.jarvislabs import create_and_resume, pause_and_destroy
from gpu_ci.runtime.clock import SystemClock
from gpu_ci.start import rental, start, until_online
from gpu_ci.stop import run_times, stop
from gpu_ci.watchdog import in_run, leftovers, stuck_runs, waits, watchdog

STORIES = {"start": start, "stop": stop, "watchdog": watchdog}
# How long answers are waited for, and what may still land without one.
LIMITS = {
    rental: ("ANSWER_GRACE", "BUDGET"),
    transport: ("HURRY_SECONDS",),
    clients: ("HURRY_SECONDS",),
    instances: ("HURRY_SECONDS",),
    http: ("HURRY_SECONDS",),
    run_times: ("PATIENCE",),
    put_away: ("LANDING_SECONDS",),
    create_and_resume: ("RESUME_LANDS_WITHIN",),
}
# A sleep is over so soon after the test has let the time pass that it was for.
STEP_SECONDS = 0.05


@dataclass(frozen=True)
class DrivenClock(SystemClock):
    """The machine's time and what the test has added to it: seconds, in the file `added`."""

    added: Path

    def now(self) -> float:
        added = self.added.read_text() if self.added.exists() else "0"
        return super().now() + float(added)

    def sleep(self, seconds: float) -> None:
        end = self.now() + seconds
        while (left := end - self.now()) > 0:
            super().sleep(min(left, STEP_SECONDS))


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
        _follow(order["slowness"])
        _tell(order["story"], order["env"], Path(order["log"]))
    return {"pid": pid}


def _follow(slowness: float) -> None:
    """Make limits longer that are real seconds, where what they bound takes longer here too."""
    for module, names in LIMITS.items():
        vars(module).update({name: vars(module)[name] * slowness for name in names})
    connect, read = (each * slowness for each in (clients.HURRIED.connect, clients.HURRIED.read))
    vars(clients).update(HURRIED=replace(clients.HURRIED, connect=connect, read=read))


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
        clock = DrivenClock(log.with_suffix(".clock"))
        code = cli.run(partial(STORIES[story], clock=clock), env)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


main()

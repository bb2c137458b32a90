"""Forks a process for each story that it is told to run, with everything imported once.

A start imports for a second; a matrix of kills would import for minutes. What is forked has its own
session, environment and log, and is signalled by the test itself.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import boto3

from gpu_ci import cli
from gpu_ci.start import start
from gpu_ci.stop import stop

STORIES = {"start": start, "stop": stop}


def main() -> None:
    boto3.session.Session()
    for line in sys.stdin:
        order = json.loads(line)
        pid = os.fork()
        if pid == 0:
            _tell(order["story"], order["env"], Path(order["log"]))
        print(json.dumps({"pid": pid}), flush=True)
        _, status = os.waitpid(pid, 0)
        print(json.dumps({"exit": os.waitstatus_to_exitcode(status)}), flush=True)


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

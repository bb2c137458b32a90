"""The stand-in for GitHub as a process of its own."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import requests

ROOT = Path(__file__).resolve().parents[2]
SERVE = f"""
import os, sys
sys.path[:0] = [{str(ROOT / "shared")!r}, {str(ROOT / "sandbox")!r}]
from gpu_ci_sandbox.serve import serve
serve(os.environ)
"""


def test_it_serves_the_run_that_it_is_told_of_until_it_is_ended() -> None:
    """It says where it is, its token reads the environment's run, and SIGTERM ends it with 0."""
    env = {"GITHUB_REPOSITORY": "octo/widgets", "GITHUB_RUN_ID": "42"}
    command = [sys.executable, "-I", "-c", SERVE]
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        told = dict(process.stdout.readline().strip().partition("=")[::2] for _ in range(3))
        with requests.Session() as session:
            session.trust_env = False
            answer = session.get(
                f"{told['url']}/repos/octo/widgets/actions/runs/42",
                headers={"Authorization": f"Bearer {told['token']}"},
                timeout=10,
            )
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
    assert told["run"] == "42"
    assert answer.status_code == 200
    assert answer.json()["id"] == 42

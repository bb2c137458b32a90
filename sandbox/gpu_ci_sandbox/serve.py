"""`gpu-ci sandbox`: serves the stand-in for GitHub until a signal ends it."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Final

from gpu_ci_sandbox.fake_github.credentials import classic
from gpu_ci_sandbox.fake_github.rest import serve_github
from gpu_ci_sandbox.world import REPOSITORY, new_run_id

if TYPE_CHECKING:
    from collections.abc import Mapping

ENDS: Final = {signal.SIGINT, signal.SIGTERM}


def serve(env: Mapping[str, str]) -> None:
    """Print `url`, `token` and `run` as NAME=VALUE lines; answer until SIGINT or SIGTERM.

    It holds one repository and one run without jobs: those of the environment, where it tells them
    (GITHUB_REPOSITORY, GITHUB_RUN_ID), so that actions of the same job meet what they expect. The
    token administers the repository and is worth nothing elsewhere. What else there is, others
    change under `/_sandbox/` (`control.py`).
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, ENDS)
    repository = env.get("GITHUB_REPOSITORY") or REPOSITORY
    with serve_github() as served:
        served.github.add_repository(repository)
        token = served.github.issue(classic(repository))
        run_id = int(env.get("GITHUB_RUN_ID") or new_run_id())
        run = served.github.start_run(repository, run_id)
        print(f"url={served.url}\ntoken={token}\nrun={run.id}", flush=True)
        signal.sigwait(ENDS)

"""A stand-in for GitHub with one labelled pull request, and the job's own token for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.gate.payloads import NUMBER, REPOSITORY

from gpu_ci_sandbox.fake_github.credentials import job_token
from gpu_ci_sandbox.fake_github.rest import serve_github

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gpu_ci_sandbox.fake_github.rest import ServedGitHub


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[ServedGitHub]:
    """Loopback is reached without the proxy of the machine that the tests run on."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serve_github() as served:
        served.github.add_repository(REPOSITORY)
        served.github.label_issue(REPOSITORY, NUMBER, "docs", "run-gpu-ci")
        yield served


@pytest.fixture
def token(hub: ServedGitHub) -> str:
    """`GITHUB_TOKEN` of a job with the permissions of gate.yml."""
    return hub.github.issue(job_token(REPOSITORY, contents="read", pull_requests="write"))

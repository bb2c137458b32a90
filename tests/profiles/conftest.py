"""A repository at a stand-in for GitHub, and the environment of a step of one of its runs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from gpu_ci_sandbox.fake_github.credentials import job_token
from gpu_ci_sandbox.fake_github.rest import ServedGitHub, serve_github

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

REPOSITORY = "octo-org/science"
FILE = ".github/gpu-ci.yml"
BASE = "b" * 40
HEAD = "c" * 40


@pytest.fixture
def hub() -> Iterator[ServedGitHub]:
    """The base has `provider: ec2`, the commit of the run `provider: local`."""
    with serve_github() as served:
        github = served.github
        github.add_repository(REPOSITORY)
        github.contents.put(REPOSITORY, BASE, FILE, "profiles: {a: {provider: ec2}}")
        github.contents.put(REPOSITORY, HEAD, FILE, "profiles: {a: {provider: local}}")
        yield served


@pytest.fixture
def step(hub: ServedGitHub, tmp_path: Path) -> dict[str, str]:
    """A push on a fresh runner, nothing checked out, with `permissions: contents: read`."""
    return {
        "GITHUB_ACTIONS": "true",
        "RUNNER_ENVIRONMENT": "github-hosted",
        "GITHUB_REPOSITORY": REPOSITORY,
        "GITHUB_EVENT_NAME": "push",
        "GITHUB_SHA": HEAD,
        "GITHUB_WORKSPACE": str(tmp_path / "workspace"),
        "GPU_CI_RUN_TOKEN": hub.github.issue(job_token(REPOSITORY, contents="read")),
        "INPUT_GITHUB_API_URL": hub.url,
        "INPUT_PROFILE": "a",
    }


@pytest.fixture
def checked_out(tmp_path: Path) -> Callable[[str], None]:
    """Put a file of profiles into the workspace."""

    def put(text: str) -> None:
        file = tmp_path / "workspace" / FILE
        file.parent.mkdir(parents=True)
        file.write_text(text)

    return put


@pytest.fixture
def pull_request(tmp_path: Path) -> Callable[..., dict[str, str]]:
    """Return what the runner sets for a pull request's run: `head` is whose branch it is."""

    def made(
        event: str = "pull_request",
        *,
        head: str | None = REPOSITORY,
        author: str = "mona",
        actor: str = "mona",
    ) -> dict[str, str]:
        request: dict[str, Any] = {
            "base": {"sha": BASE, "repo": {"full_name": REPOSITORY}},
            "head": {"sha": HEAD, "repo": {"full_name": head} if head else None},
            "user": {"login": author},
        }
        file = tmp_path / "event.json"
        file.write_text(json.dumps({"action": "labeled", "pull_request": request}))
        return {
            "GITHUB_EVENT_NAME": event,
            "GITHUB_EVENT_PATH": str(file),
            "GITHUB_ACTOR": actor,
        }

    return made

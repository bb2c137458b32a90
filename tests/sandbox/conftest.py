"""A stand-in for GitHub with one repository, a clock that stands still, and a client."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import requests

from gpu_ci_sandbox.fake_github import credentials
from gpu_ci_sandbox.fake_github.rest import ServedGitHub, serve_github
from gpu_ci_sandbox.fake_github.state import GitHub
from gpu_ci_sandbox.stopped_clock import Clock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

REPOSITORY = "octo/widgets"
VERSION = {"X-GitHub-Api-Version": "2026-03-10"}


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def github(clock: Clock) -> GitHub:
    """One private repository; no runners, runs or tokens yet."""
    state = GitHub(clock=clock)
    state.add_repository(REPOSITORY)
    return state


@pytest.fixture
def admin(github: GitHub) -> str:
    """A token that may do everything, in the repository and in its organisation."""
    return github.issue(credentials.classic(REPOSITORY, scopes=("repo", "admin:org")))


@pytest.fixture
def hub(github: GitHub) -> Iterator[ServedGitHub]:
    with serve_github(github) as served:
        yield served


@pytest.fixture
def session() -> Iterator[requests.Session]:
    with requests.Session() as made:
        made.trust_env = False
        yield made


@pytest.fixture
def call(
    hub: ServedGitHub, admin: str, session: requests.Session
) -> Callable[..., requests.Response]:
    """`call(method, path, token=…, headers=…, json=…)` below `/repos/octo/widgets`, or from `/`.

    A path that begins with `/` is below the root.
    """

    def ask(method: str, path: str, **options: Any) -> requests.Response:
        token = options.pop("token", admin)
        who = {"Authorization": f"Bearer {token}"} if token else {}
        headers = VERSION | who | options.pop("headers", {})
        address = path if path.startswith("/") else f"/repos/{REPOSITORY}/{path}".rstrip("/")
        return session.request(
            method, hub.url + address, headers=headers, timeout=10, allow_redirects=False, **options
        )

    return ask
